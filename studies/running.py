"""Where studies meet the sweep: the one place that calls it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from etastar.errors import TrialError
from etastar.optimizers import OPTIMIZERS
from etastar.sweep import Recipe, run_sweep
from etastar.sweep.executors import Executor
from etastar.sweep.recipe import Size
from etastar.sweep.result import Progress, SweepResult
from etastar.sweep.trial import TrialRecord
from studies.mup_package import MUP_OPTIMIZERS
from studies.network import network_architecture
from studies.training import cross_entropy, family_batches, family_optimizer, initialized_model

if TYPE_CHECKING:
    from studies.declaration import Family


@dataclass(frozen=True)
class Workplace:
    """Where runs are trained and kept.

    Attributes:
        storage: Journal file or database URL; None for memory.
        workers: Processes that train, 0 for this one; or an executor.
        on_progress: Called with the family's name and the progress of its sweep.
    """

    storage: str | os.PathLike[str] | None = None
    workers: int | Executor = 0
    on_progress: Callable[[str, Progress], None] | None = None

    def report(self, family: Family, progress: Progress) -> None:
        """Tell of a sweep's progress, where somebody listens."""
        if self.on_progress is not None:
            self.on_progress(family.name, progress)


def family_recipe(family: Family) -> Recipe:
    """What a sweep runs for a family; its callables can be pickled.

    Args:
        family: The declaration.

    Returns:
        The recipe.

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
    return Recipe(
        make_model=partial(initialized_model, family),
        batches=partial(family_batches, family),
        loss_fn=cross_entropy,
        make_optimizer=partial(family_optimizer, family),
        num_steps=family.budget.num_steps,
        batch_size=family.budget.batch_size,
        depth=partial(_depth, family),
        settings=family.settings,
    )


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
        family_recipe(family),
        family.sizes,
        search=family.search,
        seeds=family.seeds,
        workers=work.workers,
        storage=work.storage,
        name=_stored_name(family),
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
        family_recipe(family),
        [size],
        search=lrs,
        seeds=family.seeds,
        workers=work.workers,
        storage=work.storage,
        name=f"{_stored_name(family)} transfer",
        on_progress=partial(work.report, family),
    )
    return tuple(trial for trial in found.trials if trial.point.lr in lrs)


def _stored_name(family: Family) -> str:
    return family.name.replace("/", ":")  # a store takes no "/"


def _depth(family: Family, **size: int) -> float:
    report = network_architecture(family.network, tuple(sorted(size.items()))).report
    return float(report.effective_depth)
