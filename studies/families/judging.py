"""Every rule's rate trained at the target, and what it came to by the four measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import hypot, isfinite, log
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Final

from etastar.transfer.experience import Parametrization
from studies.families.curves import FamilyCurves
from studies.families.measures import Best, compute_regret, octaves, relative_regret
from studies.families.rules import is_rate

if TYPE_CHECKING:
    from studies.families.rules import Offer
    from studies.families.runs import RunFile

SHARES: Final = (0.5, 0.25)
"""Of the steps: the best one's shorter runs, each with its whole schedule."""

_NORMAL: Final = NormalDist()
_Z: Final = _NORMAL.inv_cdf(0.975)


@dataclass(frozen=True)
class Outcome:
    """What a rule's rate came to at a target.

    Attributes:
        family: Name.
        target: Depth.
        proposal: The rate, and what it cost.
        loss: Mean final loss there; +inf where a seed diverged.
        relative: Relative regret.
        compute: Compute regret.
        octaves: Error of the rate against the optimum of the same parametrization; None where that
            has no curve at the target.
        held: Whether the rule's interval holds that optimum; None without an interval.
        expected: How probable that is if the interval is true: see `chance_to_hold`.
        well_posed: Whether base and target are.
    """

    family: str
    target: int
    proposal: Offer
    loss: float
    relative: float
    compute: float
    octaves: float | None
    held: bool | None
    expected: float | None
    well_posed: bool


@dataclass(frozen=True)
class Summary:
    """A rule over its well-posed cases.

    Attributes:
        rule: Name.
        cases: Their number.
        relative: Relative regret at the median and at worst.
        compute: Compute regret at the median and at worst.
        near: Cases whose rate is within a factor 1.5 of the optimum, and those where it is known.
        held: Cases whose interval holds the optimum, and those that have one.
        expected: How many of these would hold it if the intervals were true.
        cost: Median cost, as a share of a target run.
    """

    rule: str
    cases: int
    relative: tuple[float, float]
    compute: tuple[float, float]
    near: tuple[int, int]
    held: tuple[int, int]
    expected: float
    cost: float


def best_cell(curves: FamilyCurves, target: int) -> tuple[Parametrization, float] | None:
    """Parametrization and rate of the lowest mean loss at a target, over all grids."""
    found = [
        (curve.best[1], parametrization, curve.best[0])
        for (parametrization, depth), curve in curves.curves.items()
        if depth == target
    ]
    if not found:
        return None
    _, parametrization, lr = min(found)
    return parametrization, lr


def train_offers(file: RunFile, target: int, offers: Iterable[Offer]) -> None:
    """Train what rules propose, and the best one for shorter.

    Args:
        file: Runs of the family; what it has is not run again.
        target: Depth.
        offers: Of all rules.
    """
    steps = file.scale.num_steps
    for offer in offers:
        if is_rate(offer.lr):
            file.run((offer.parametrization, target, steps), [_rounded(offer.lr)])
    best = best_cell(FamilyCurves(file), target)
    if best is not None:
        parametrization, lr = best
        for share in SHARES:
            file.run((parametrization, target, round(share * steps)), [lr])


def outcomes(file: RunFile, target: int, offers: Iterable[Offer]) -> tuple[Outcome, ...]:
    """What the rules' rates came to.

    Args:
        file: Runs of the family, those of `train_offers` among them.
        target: Depth.
        offers: Of all rules.

    Returns:
        One judgement for each; none where the target has no curve, or the shorter runs are missing.
    """
    curves, steps = FamilyCurves(file), file.scale.num_steps
    cell, reference = best_cell(curves, target), None
    if cell is not None:
        reference = _best(file, curves, target, cell)
    if reference is None:
        return ()
    base = curves.well_posed("own", file.family.base_depth)
    found = []
    for offer in offers:
        losses = file.losses((offer.parametrization, target, steps)).get(_rounded(offer.lr))
        if losses is None and is_rate(offer.lr):
            continue  # not trained yet
        loss = float("inf") if losses is None else sum(losses) / len(losses)
        loss = loss if isfinite(loss) else float("inf")
        curve = curves.curve(offer.parametrization, target)
        optimum = None if curve is None else curve.optimum.lr
        held = expected = None
        if offer.interval is not None and curve is not None:
            held = offer.interval[0] <= curve.optimum.lr <= offer.interval[1]
            expected = chance_to_hold(offer.interval, curve.log_sd)
        found.append(
            Outcome(
                *(file.family.name, target, offer, loss),
                relative=relative_regret(loss, reference),
                compute=compute_regret(loss, reference),
                octaves=None if optimum is None else octaves(offer.lr, optimum),
                held=held,
                expected=expected,
                well_posed=bool(base and curves.well_posed(offer.parametrization, target)),
            )
        )
    return tuple(found)


def chance_to_hold(interval: tuple[float, float], log_sd: float) -> float:
    """How probably a true 95% interval holds an optimum that is known with an error.

    P(|N(0, s^2 + t^2)| < z s) = 2 Phi(z s / (s^2 + t^2)^(1/2)) - 1, z s half of the interval in log
    lr, t the error.

    Args:
        interval: Of the rate.
        log_sd: Standard deviation of the logarithm of the optimum that was measured.

    Returns:
        At most 0.95, which it is without an error.

    Example:
        >>> round(chance_to_hold((0.1, 0.4), 0.0), 9), round(chance_to_hold((0.1, 0.4), 0.35), 3)
        (0.95, 0.836)
    """
    half = log(interval[1] / interval[0]) / 2
    return 2 * _NORMAL.cdf(half / hypot(half / _Z, log_sd)) - 1


def rule_summaries(judgements: Sequence[Outcome]) -> tuple[Summary, ...]:
    """Rules over the well-posed cases, in the order in which they come.

    Args:
        judgements: Of all families.

    Returns:
        A summary for each rule with a well-posed case.
    """
    found = []
    for rule in dict.fromkeys(one.proposal.rule for one in judgements):
        cases = [one for one in judgements if one.proposal.rule == rule and one.well_posed]
        if not cases:
            continue
        known = [abs(one.octaves) for one in cases if one.octaves is not None]
        held = [one.held for one in cases if one.held is not None]
        expected = sum(one.expected for one in cases if one.expected is not None)
        found.append(
            Summary(
                *(rule, len(cases)),
                relative=_middle_and_worst([one.relative for one in cases]),
                compute=_middle_and_worst([one.compute for one in cases]),
                near=(sum(2**error <= 1.5 for error in known), len(known)),
                held=(sum(held), len(held)),
                expected=expected,
                cost=median(one.proposal.cost for one in cases),
            )
        )
    return tuple(found)


def _best(
    file: RunFile, curves: FamilyCurves, target: int, cell: tuple[Parametrization, float]
) -> Best | None:
    parametrization, lr = cell
    curve = curves.curve(parametrization, target)
    assert curve is not None, "the best cell is one of the curves"
    shorter = {}
    for share in SHARES:
        steps = round(share * file.scale.num_steps)
        losses = file.losses((parametrization, target, steps)).get(lr)
        if losses is None:
            return None
        shorter[share] = sum(losses) / len(losses)
    return Best(curve.best[1], curve.initial_loss, shorter)


def _rounded(lr: float) -> float:
    """Six digits, so that rules that agree share their runs."""
    return float(f"{lr:.6g}")


def _middle_and_worst(values: Sequence[float]) -> tuple[float, float]:
    return float(median(values)), max(values)
