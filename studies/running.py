"""Where studies meet the sweep: the one place that calls it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from etastar.errors import TrialError
from etastar.optimizers import OPTIMIZERS
from etastar.sweep.executors.registry import get_executor
from etastar.sweep.space import Budget, Experiment
from etastar.sweep.study import run_sweep
from studies.mup_package import MUP_OPTIMIZERS
from studies.network import network_architecture
from studies.training import cross_entropy, family_optimizer, initialized_model, load_data

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from etastar.sweep.executors.base import Executor
    from etastar.sweep.progress import Progress
    from etastar.sweep.record import TrialRecord
    from etastar.sweep.result import SweepResult
    from etastar.sweep.space import Size
    from studies.declaration import Data, Family

__all__ = ["Workplace", "family_experiment", "train_rates", "tune_family"]


@dataclass(frozen=True)
class Workplace:
    """Where runs are trained and kept.

    Attributes:
        storage: Journal file or database URL; None for memory.
        workers: Processes that train; 0 for this one.
        on_progress: Called with the family's name and the progress of its sweep.
    """

    storage: str | os.PathLike[str] | None = None
    workers: int = 0
    on_progress: Callable[[str, Progress], None] | None = None

    def executor(self) -> Executor:
        """A new executor, for one sweep."""
        if self.workers:
            return get_executor("processes", workers=self.workers)
        return get_executor("sequential")

    def report(self, family: Family, progress: Progress) -> None:
        """Tell of a sweep's progress, where somebody listens."""
        if self.on_progress is not None:
            self.on_progress(family.name, progress)


def family_experiment(family: Family) -> Experiment:
    """What a sweep runs for a family; its callables can be pickled.

    Args:
        family: The declaration.

    Returns:
        The experiment.

    Raises:
        TrialError: The optimizer is unknown.
    """
    known = (*OPTIMIZERS, *MUP_OPTIMIZERS)
    if family.optimizer.name not in known:
        raise TrialError(
            f"optimizer {family.optimizer.name!r}",
            f"one of: {', '.join(known)}",
            "choose a listed one",
        )
    return Experiment(
        factory=partial(initialized_model, family),
        batches=partial(_batches, family.data),
        loss_fn=cross_entropy,
        make_optimizer=partial(family_optimizer, family),
        budget=Budget(family.budget.num_steps, family.budget.batch_size),
        settings=family.settings,
    )


def _batches(
    data: Data, seed: int, batch_size: int, num_steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    return load_data(data).batches(seed, batch_size, num_steps)


def tune_family(family: Family, work: Workplace) -> SweepResult:
    """Tune every size of a family; what the store has is not run again.

    Args:
        family: The declaration.
        work: Where to train and to keep.

    Returns:
        Every run, and the optimum of each size.

    Raises:
        TrialError: A run raised; what is finished is kept.
        StorageError: The store is of another declaration, or cannot be read or written.
    """
    return run_sweep(
        family_experiment(family),
        family.sizes,
        search=family.search,
        seeds=family.seeds,
        executor=work.executor(),
        storage=work.storage,
        name=_stored_name(family),
        depths={size: _depth(family, size) for size in family.sizes},
        on_progress=partial(work.report, family),
    )


def train_rates(
    family: Family, work: Workplace, size: Size, lrs: tuple[float, ...]
) -> tuple[TrialRecord, ...]:
    """Train one size at rates, with all seeds.

    These runs are kept apart from the sweep's, under another name of the store, so that a size's
    optimum does not depend on which rules were tried.

    Args:
        family: The declaration.
        work: Where to train and to keep.
        size: One of the family's.
        lrs: The rates.

    Returns:
        The runs at these rates alone; the store may hold those of rules no longer asked.
    """
    if not lrs:
        return ()
    found = run_sweep(
        family_experiment(family),
        [size],
        lrs=lrs,
        seeds=family.seeds,
        executor=work.executor(),
        storage=work.storage,
        name=f"{_stored_name(family)} transfer",
        on_progress=partial(work.report, family),
    )
    return tuple(trial for trial in found.trials if trial.point.lr in lrs)


def _stored_name(family: Family) -> str:
    return family.name.replace("/", ":")  # a store takes no "/"


def _depth(family: Family, size: Size) -> float:
    return float(network_architecture(family.network, size).report.effective_depth)
