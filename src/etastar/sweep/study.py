"""A sweep: the optimal learning rate of each size, by a search that can stop and go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from etastar.errors import TrialError
from etastar.graph.isolation import require_plain_execution
from etastar.sweep.executors import Executor, Processes, Sequential
from etastar.sweep.recipe import (
    Point,
    Recipe,
    Size,
    as_size,
    format_size,
    measured_start,
    recipe_settings,
    size_depth,
)
from etastar.sweep.result import Progress, SizeResult, SweepResult, size_optimum
from etastar.sweep.search import Bracket, Context, Grid, Search
from etastar.sweep.storage import Store, as_store
from etastar.sweep.trial import TrialRecord
from etastar.typed import as_seeds, require_callable, require_type

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
"""Seconds between looks at the store while another process runs the points that are wanted."""


def run_sweep(
    recipe: Recipe,
    sizes: Iterable[Mapping[str, int] | Size],
    *,
    search: Search | str | Sequence[float] = "bracket",
    seeds: int | Sequence[int] = 2,
    storage: Store | str | os.PathLike[str] | None = None,
    workers: int | Executor = 0,
    name: str = "sweep",
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Find the optimal learning rate of every size.

    Sizes are searched in the order given, each knowing the optima of those before. The search is
    replayed from its beginning on the runs that the store has, and only what is missing is run: the
    same call continues where it was stopped, and several processes on one store divide the work
    and come to the same result. Runs that the store has beyond what the search asks for, such as
    those of another grid, count for the optimum all the same.

    Args:
        recipe: What a run is.
        sizes: Arguments of `make_model`, such as {"depth": 6, "width": 64}; each once.
        search: Which points to run: "bracket", a search, or the rates of a grid. Where it needs a
            start that nobody gave, the criterion is measured in this process: `measured_start`.
        seeds: All different, or their number n for 0 to n - 1; a search uses a prefix, or all.
        storage: A store, the path of a journal file, a database's URL, or None for memory. It is
            closed when the sweep ends, and can be read and opened again.
        workers: Processes to run in, 0 for this one; or an executor, such as `Ray`. It is left (its
            processes end) when the sweep ends.
        name: Of the sweep in a store that is given by path or URL.
        on_progress: Called after every run, and while runs of other processes are waited for.

    Returns:
        Every run, and the optimum of each size with its flags.

    Raises:
        TrialError: A run raised, or an argument is not accepted, or the search needs a start that
            cannot be measured; finished runs are kept.
        StorageError: The store is of another recipe, or cannot be read or written.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from etastar.sweep.recipe import Recipe
        >>> recipe = Recipe(
        ...     make_model=lambda width: nn.Linear(width, 1),
        ...     batches=lambda seed: [(torch.ones(4, 2), torch.zeros(4, 1))] * 9,
        ...     loss_fn=nn.functional.mse_loss,
        ...     make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        ...     num_steps=9,
        ...     batch_size=4,
        ... )
        >>> result = run_sweep(recipe, [{"width": 2}], search=[0.05, 0.15, 0.3], seeds=1)
        >>> len(result.trials), 0.05 < result.optima[(("width", 2),)].lr < 0.3
        (3, True)

    Source: docs/definitions.md, section 5.
    """
    if not isinstance(recipe, Recipe):
        raise TrialError(f"recipe={recipe!r}", "a Recipe", "see etastar.Recipe")
    require_callable("on_progress", on_progress, error=TrialError, optional=True)
    require_type("name", name, str, error=TrialError)
    require_plain_execution(error=TrialError)
    ordered, chosen, runner = _sizes(recipe, sizes), as_search(search), _executor(workers)
    used = as_seeds(seeds, error=TrialError)
    results: list[SizeResult] = []
    with ExitStack() as stack:
        store = stack.enter_context(as_store(storage, name=name))
        stack.enter_context(runner)
        # before anything is written, another recipe's store is told, and all that may be refused
        is_new = not store.settings()
        if not is_new:
            store.open(recipe_settings(recipe))
        runner.require(recipe)
        kept = {size: store.depth(size) for size in ordered}
        depths = {
            size: size_depth(recipe, size) if depth is None else depth
            for size, depth in kept.items()
        }
        first = measured_start(recipe, ordered[0], used) if chosen.needs_start else None
        if is_new:
            store.open(recipe_settings(recipe))
        known = {size: depth for size, depth in depths.items() if depth is not None}
        for size, depth in known.items():
            if kept[size] is None:
                store.keep_depth(size, depth)
        for size in ordered:
            optima = tuple((one.size, one.optimum) for one in results if one.optimum is not None)
            start = None
            if chosen.needs_start and not optima:
                start = first if size == ordered[0] else measured_start(recipe, size, used)
            context = Context(size, used, optima, tuple(known.items()), start)
            sweep = _Sweep(recipe, context, chosen, runner, store, on_progress)
            results.append(sweep.run())
        settings = tuple(sorted(store.settings().items()))
    return SweepResult(tuple(results), settings, (("name", chosen.name), *chosen.options.items()))


@dataclass(frozen=True)
class _Sweep:
    """The search of one size, under way."""

    recipe: Recipe
    context: Context
    search: Search
    executor: Executor
    store: Store
    on_progress: Callable[[Progress], None] | None

    def run(self) -> SizeResult:
        """Replay the search, and run what is missing."""
        replayed: list[TrialRecord] = []
        while proposal := self.search.propose(tuple(replayed), self.context):
            replayed += self._complete(proposal)
        records = self.store.records(self.context.size)
        self._report(records, done=True)
        return SizeResult(self.context.size, records, size_optimum(records))

    def _complete(self, proposal: Sequence[Point]) -> list[TrialRecord]:
        """The records of a proposal, run here or by another process on the same store."""
        wait = _FIRST_WAIT
        while True:
            records = self.store.records(self.context.size)
            found = {record.point: record for record in records}
            missing = [point for point in proposal if point not in found]
            self._report(records)
            if not missing:
                return [found[point] for point in proposal]
            if mine := self._begin(missing):
                self._run(mine, list(records))
                wait = _FIRST_WAIT
            else:
                self._report(records, waiting=self.store.awaited(self.context.size, missing))
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _begin(self, missing: Sequence[Point]) -> tuple[Point, ...]:
        """The next points that nobody has: as many as the executor takes at a time."""
        most = self.executor.max_points or len(missing)
        for start in range(0, len(missing), most):
            if mine := self.store.begin(self.context.size, missing[start : start + most]):
                return mine
        return ()

    def _run(self, points: Sequence[Point], records: list[TrialRecord]) -> None:
        for record in self.executor.run(self.recipe, self.context.size, points):
            self.store.finish(record)
            records.append(record)
            self._report(records)

    def _report(
        self, records: Sequence[TrialRecord], *, done: bool = False, waiting: str = ""
    ) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress(self.context.size, tuple(records), done, waiting))


def _sizes(recipe: Recipe, sizes: Iterable[Mapping[str, int] | Size]) -> tuple[Size, ...]:
    given = tuple(sizes) if hasattr(sizes, "__iter__") and not isinstance(sizes, dict) else ()
    ordered = tuple(as_size(size) for size in given)
    if not ordered or len(set(ordered)) < len(ordered):
        listed = "; ".join(map(format_size, ordered)) or repr(sizes)
        raise TrialError(
            f"the sizes {listed}",
            "a list of one size or more, each once",
            'write for example [{"depth": 3}, {"depth": 6}]',
        )
    for size in ordered:
        recipe.require_takes(size)
    return ordered


def _executor(workers: int | Executor) -> Executor:
    if isinstance(workers, Executor):
        return workers
    if type(workers) is not int or workers < 0:
        raise TrialError(
            f"workers={workers!r}",
            "a number of processes, 0 for this one; or an executor",
            "give for example 4, or Ray(address=...)",
        )
    return Processes(workers) if workers else Sequential()


def as_search(given: Search | str | Sequence[float]) -> Search:
    """The search that a caller means."""
    if isinstance(given, Search):
        return given
    if given == "bracket":
        return Bracket()
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TrialError(
            f"search={given!r}",
            '"bracket", a search such as Bracket(start=0.1), or the rates of a grid',
            "choose one of these: run_sweep(..., search=[0.01, 0.1, 1.0])",
        )
    return Grid(given)
