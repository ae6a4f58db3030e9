"""Run a family: tune its sizes, fit its exponents, train what the rules transfer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from etastar.fit import Optimum
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.measure import UpdateReport
from etastar.sweep.result import SizeResult
from studies.declaration import CriterionFamily
from studies.exponents import family_fits
from studies.measuring import first_sgd_step
from studies.records import FamilyEvidence
from studies.running import train_rates, tune_family
from studies.transferring import transfer_family

if TYPE_CHECKING:
    from studies.declaration import AnyFamily, Family
    from studies.running import Workplace

_CRITERION = 1.0
"""The mean-square update at eta*, which stands where a sweep has its lowest loss."""


def gather(family: AnyFamily, work: Workplace) -> FamilyEvidence:
    """Everything that is asked of a family; what the store has is not run again.

    Args:
        family: The declaration.
        work: Where to train and to keep; not used for the criterion, which takes seconds.

    Returns:
        Runs, optima, exponents and regrets; of the criterion optima and exponents alone.

    Raises:
        TrialError: A run raised; what is finished is kept.
        StorageError: The store is of another declaration, or cannot be read or written.
    """
    if isinstance(family, CriterionFamily):
        return _measured(family)
    return _trained(family, work)


def _trained(family: Family, work: Workplace) -> FamilyEvidence:
    tuned = tune_family(family, work)
    axes, fits = family_fits(family, tuned.sizes)
    regrets, transfers = transfer_family(family, tuned.sizes, partial(train_rates, family, work))
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


def _measured(criterion: CriterionFamily) -> FamilyEvidence:
    family = criterion.family
    sizes = tuple(
        SizeResult(size, (), criterion_optimum(first_sgd_step(criterion, size)))
        for size in family.sizes
    )
    axes, fits = family_fits(family, sizes)
    settings = {
        **family.settings,
        "optimizer": "sgd, first step",
        "examples": str(family.budget.batch_size),
        "loss": "linear",
        "seeds": f"0 to {len(family.seeds) - 1}",
        "weights": criterion.weights,
    }
    return FamilyEvidence(
        name=criterion.name,
        group=family.group,
        settings=tuple(sorted(settings.items())),
        sizes=sizes,
        axes=axes,
        fits=fits,
    )


def criterion_optimum(report: UpdateReport) -> Optimum:
    """eta* of the mean over seeds as an optimum, with the bootstrap that a sweep's has.

    Args:
        report: The criterion of one size.

    Returns:
        Its rate in the place of a sweep's, with an interval over seeds.
    """
    by_seed = np.array(report.by_seed)
    draws = resampled_seeds(len(by_seed))
    resampled = by_seed[draws].mean(1) ** -0.5
    return Optimum(
        lr=report.eta_star_of_mean,
        loss=_CRITERION,
        lowest_lr=report.eta_star_of_mean,
        method="lowest point",
        at_edge=False,
        num_seeds=len(by_seed),
        num_diverged=0,
        interval=percentile_interval(resampled),
        resampled_lrs=tuple(resampled.tolist()),
    )
