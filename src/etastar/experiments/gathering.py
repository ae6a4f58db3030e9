"""Run a family: tune its sizes, fit its exponents, train what the rules transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.experiments.exponents import family_fits
from etastar.experiments.network import network_architecture
from etastar.experiments.training import family_experiment
from etastar.experiments.transferring import transfer_family
from etastar.report.evidence import FamilyEvidence
from etastar.sweep.study import run_sweep

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from etastar.experiments.declaration import Family
    from etastar.sweep.executors.base import Executor
    from etastar.sweep.progress import Progress
    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Size

__all__ = ["Workplace", "gather_family"]


@dataclass(frozen=True)
class Workplace:
    """Where runs are trained and kept.

    Attributes:
        storage: Journal file or database URL; None for memory.
        make_executor: A new executor for each sweep.
        on_progress: Called with the family's name and the progress of its sweep.
    """

    storage: str | os.PathLike[str] | None
    make_executor: Callable[[], Executor]
    on_progress: Callable[[str, Progress], None] | None = None


def gather_family(family: Family, work: Workplace) -> FamilyEvidence:
    """Everything that is asked of a family; what the store has is not run again.

    Runs at transferred rates are kept apart from the sweep's, under another name of the store, so
    that a size's optimum does not depend on which rules were tried.

    Args:
        family: The declaration.
        work: Where to train and to keep.

    Returns:
        Runs, optima, exponents and regrets.

    Raises:
        TrialError: A run raised; what is finished is kept.
        StorageError: The store is of another declaration, or cannot be read or written.
    """
    experiment = family_experiment(family)
    name = family.name.replace("/", ":")  # a store takes no "/"

    def report(progress: Progress) -> None:
        if work.on_progress is not None:
            work.on_progress(family.name, progress)

    def train(size: Size, lrs: tuple[float, ...]) -> tuple[TrialRecord, ...]:
        if not lrs:
            return ()
        found = run_sweep(
            experiment,
            [size],
            lrs=lrs,
            seeds=family.seeds,
            executor=work.make_executor(),
            storage=work.storage,
            name=f"{name} transfer",
            on_progress=report,
        )
        # the store may hold rates of rules that are no longer asked
        return tuple(trial for trial in found.trials if trial.point.lr in lrs)

    tuned = run_sweep(
        experiment,
        family.sizes,
        search=family.search,
        seeds=family.seeds,
        executor=work.make_executor(),
        storage=work.storage,
        name=name,
        depths={size: _depth(family, size) for size in family.sizes},
        on_progress=report,
    )
    axes, fits = family_fits(family, tuned.sizes)
    regrets, transfers = transfer_family(family, tuned.sizes, train)
    described = {**dict(tuned.settings), **{f"search.{k}": str(v) for k, v in tuned.search}}
    return FamilyEvidence(
        name=family.name,
        group=family.group,
        settings=(*sorted(described.items()), ("seeds", str(family.seeds))),
        sizes=tuned.sizes,
        axes=axes,
        fits=fits,
        regrets=regrets,
        transfers=transfers,
    )


def _depth(family: Family, size: Size) -> float:
    return float(network_architecture(family.network, size).report.effective_depth)
