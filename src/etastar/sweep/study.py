"""A sweep: the optimal learning rate of each size, by a search that can stop and go on."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from etastar.errors import TrialError
from etastar.sweep.executors.sequential import Sequential
from etastar.sweep.optimum import size_optimum
from etastar.sweep.progress import Progress, progress_of
from etastar.sweep.result import SizeResult, SweepResult
from etastar.sweep.search.base import Context
from etastar.sweep.search.grid import Grid
from etastar.sweep.space import Point
from etastar.sweep.starting import measured_start
from etastar.sweep.storage.opening import as_store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from etastar.fit import Optimum
    from etastar.sweep.executors.base import Executor
    from etastar.sweep.record import TrialRecord
    from etastar.sweep.search.base import Search
    from etastar.sweep.space import Experiment, Size
    from etastar.sweep.storage.base import Store

__all__ = ["experiment_settings", "run_sweep"]

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0
"""Seconds between looks at the store while another process runs the points that are wanted."""


def run_sweep(
    experiment: Experiment,
    sizes: Iterable[Mapping[str, int] | Size],
    *,
    search: Search | None = None,
    lrs: Iterable[float] | None = None,
    seeds: Sequence[int] = (0, 1),
    executor: Executor | None = None,
    storage: Store | str | os.PathLike[str] | None = None,
    name: str = "sweep",
    depths: Mapping[Size, float] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Find the optimal learning rate of every size.

    Sizes are searched in the order given, each knowing the optima of those before. The search is
    replayed from its beginning on the runs that the store has, and only what is missing is run: the
    same call continues where it was stopped, and several processes on one store divide the work
    and come to the same result. Runs that the store has beyond what the search asks for, such as
    those of another grid, count for the optimum all the same.

    Args:
        experiment: What a run is.
        sizes: Arguments of the factory, such as {"depth": 6, "width": 64}; each once.
        search: Which points to run; or give `lrs`. Where it needs a start that nobody gave, the
            criterion is measured in this process: see `measured_start`.
        lrs: Short for `Grid(lrs)`: these rates with all seeds.
        seeds: All different; a search uses a prefix of them, or all.
        executor: Where to run; one run after another in this process when None. It is left (its
            processes end) when the sweep ends.
        storage: A store, the path of a journal file, a database's URL, or None for memory. It is
            closed when the sweep ends, and can be read and opened again.
        name: Of the experiment in a store that is given by path or URL.
        depths: Effective depth of each size, for a search that starts where the law predicts.
        on_progress: Called after every run and now and then between.

    Returns:
        Every run, and the optimum of each size with its flags.

    Raises:
        TrialError: A run raised, or there is no size, seed or search, or the search needs a start
            that cannot be measured; finished runs are kept.
        StorageError: The store is of another experiment, or cannot be read or written.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from etastar.sweep.space import Budget, Experiment
        >>> experiment = Experiment(
        ...     factory=lambda width: nn.Linear(width, 1),
        ...     batches=lambda seed, size, steps: [(torch.ones(size, 2), torch.zeros(size, 1))] * 9,
        ...     loss_fn=nn.functional.mse_loss,
        ...     make_optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        ...     budget=Budget(num_steps=9, batch_size=4),
        ... )
        >>> result = run_sweep(experiment, [{"width": 2}], lrs=[0.05, 0.15, 0.3], seeds=[0])
        >>> len(result.trials), 0.05 < result.optima[(("width", 2),)].lr < 0.3
        (3, True)

    Source: docs/definitions.md, section 5.
    """
    ordered = _sizes(sizes)
    chosen = _search(search, lrs)
    _require_seeds(seeds)
    runner = Sequential() if executor is None else executor
    settings = experiment_settings(experiment)
    results: list[SizeResult] = []
    with ExitStack() as stack:
        store = stack.enter_context(as_store(storage, name=name))
        store.open(settings)
        stack.enter_context(runner)
        for size in ordered:
            context = _context(size, seeds, results, experiment, depths)
            if chosen.needs_start and not context.optima:
                context = replace(context, start=measured_start(experiment, size, seeds))
            results.append(_Sweep(experiment, context, chosen, runner, store, on_progress).run())
    return SweepResult(
        sizes=tuple(results),
        settings=tuple(sorted(settings.items())),
        search=(("name", chosen.name), *sorted(chosen.options.items())),
    )


def experiment_settings(experiment: Experiment) -> dict[str, str]:
    """All that tells an experiment from another, as a store keeps it.

    Args:
        experiment: What a run is.

    Returns:
        Its own settings, and the budget's as "budget.num_steps" and so on.
    """
    budget = experiment.budget
    own = {f"budget.{field.name}": str(getattr(budget, field.name)) for field in fields(budget)}
    return {**experiment.settings, **own}


@dataclass
class _Sweep:
    """The search of one size, under way."""

    experiment: Experiment
    context: Context
    search: Search
    executor: Executor
    store: Store
    on_progress: Callable[[Progress], None] | None
    _progress: Progress | None = field(default=None, init=False)
    _steps: int = field(default=0, init=False)

    def run(self) -> SizeResult:
        """Replay the search, and run what is missing."""
        replayed: list[TrialRecord] = []
        while proposal := self.search.propose(tuple(replayed), self.context):
            replayed += self._complete(proposal)
        records = self.store.records(self.context.size)
        self._report(records, num_running=0, done=True)
        return SizeResult(self.context.size, records, size_optimum(records))

    def _complete(self, proposal: Sequence[Point]) -> list[TrialRecord]:
        """The records of a proposal, run here or by another process on the same store."""
        wait = _FIRST_WAIT
        while True:
            records = self.store.records(self.context.size)
            found = {record.point: record for record in records}
            missing = [point for point in proposal if point not in found]
            self._report(records, num_running=len(missing))
            if not missing:
                return [found[point] for point in proposal]
            mine = self._begin(missing)
            if mine:
                self._run(mine, list(records), num_running=len(missing))
                wait = _FIRST_WAIT
            else:
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _begin(self, missing: Sequence[Point]) -> tuple[Point, ...]:
        """The next points that nobody has: as many as the executor takes at a time."""
        handful = self.executor.handful
        if handful is None or not self.store.shared:
            return self.store.begin(self.context.size, missing)
        for start in range(0, len(missing), handful):
            mine = self.store.begin(self.context.size, missing[start : start + handful])
            if mine:
                return mine
        return ()

    def _run(
        self, points: Sequence[Point], records: list[TrialRecord], *, num_running: int
    ) -> None:
        runs = self.executor.run(
            self.experiment, self.context.size, points, on_step=self._count_steps
        )
        for done, record in enumerate(runs, start=1):
            self.store.finish(record)
            records.append(record)
            self._report(records, num_running=num_running - done)

    def _report(
        self, records: Sequence[TrialRecord], *, num_running: int, done: bool = False
    ) -> None:
        if self.on_progress is None:
            return
        shown = progress_of(self.context.size, records, num_running=num_running, done=done)
        # an executor need not count steps, and another process's runs are seen when they are done
        self._progress = replace(shown, steps=max(shown.steps, self._steps))
        self._steps = self._progress.steps
        self.on_progress(self._progress)

    def _count_steps(self, steps: int) -> None:
        self._steps += steps
        if self.on_progress is not None and self._progress is not None:
            self._progress = replace(self._progress, steps=self._steps)
            self.on_progress(self._progress)


def _context(
    size: Size,
    seeds: Sequence[int],
    results: Sequence[SizeResult],
    experiment: Experiment,
    depths: Mapping[Size, float] | None,
) -> Context:
    optima: list[tuple[Size, Optimum]] = [
        (result.size, result.optimum) for result in results if result.optimum is not None
    ]
    return Context(
        size=size,
        seeds=tuple(seeds),
        optima=tuple(optima),
        num_steps=experiment.budget.num_steps,
        depths=tuple(sorted((depths or {}).items())),
    )


def _sizes(sizes: Iterable[Mapping[str, int] | Size]) -> tuple[Size, ...]:
    ordered = tuple(tuple(sorted(dict(size).items())) for size in sizes)
    if not ordered or not all(ordered) or len(set(ordered)) < len(ordered):
        raise TrialError(
            f"the sizes {ordered}", "one size or more, each once, none empty", "mend the sizes"
        )
    return ordered


def _search(search: Search | None, lrs: Iterable[float] | None) -> Search:
    if (search is None) == (lrs is None):
        given = "neither search nor lrs" if search is None else "both search and lrs"
        raise TrialError(given, "one of them", "give lrs for a grid, or a search")
    return search or Grid(tuple(lrs or ()))


def _require_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise TrialError(f"seeds={tuple(seeds)}", "one seed or more, each once", "mend the seeds")
