"""Verdicts on claims, computed from intervals and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from studies.records import Judgement

if TYPE_CHECKING:
    from studies.records import Claim, ExponentFit, FamilyEvidence, Verdict

WIDEST = 0.5
"""Half-width beyond which an interval that holds the claimed value decides nothing (a choice)."""


def judge(claims: Iterable[Claim], families: Iterable[FamilyEvidence]) -> tuple[Judgement, ...]:
    """Every claim beside what was measured.

    Args:
        claims: What the papers say.
        families: What was found.

    Returns:
        A judgement for each claim, in order.
    """
    by_name = {family.name: family for family in families}
    return tuple(_judged(claim, by_name) for claim in claims)


def _judged(claim: Claim, families: Mapping[str, FamilyEvidence]) -> Judgement:
    names = [claim.family] if claim.against is None else [claim.family, claim.against]
    fits = [families[name].fit(claim.axis) for name in names]
    known = [fit for fit in fits if fit is not None]
    if len(known) < len(fits):
        return Judgement(claim, None, None, "undecided", "fewer than two sizes have an optimum")
    measured = known[0].exponent - sum(fit.exponent for fit in known[1:])
    interval = _interval(measured, known)
    flags = {flag for fit in known for flag in fit.flags if flag in ("edge", "no optimum")}
    if flags:
        reason = f"{' and '.join(sorted(flags))} among the sizes"
        return Judgement(claim, measured, interval, "undecided", reason)
    verdict, reason = verdict_of(claim, interval)
    return Judgement(claim, measured, interval, verdict, reason)


def _interval(measured: float, fits: list[ExponentFit]) -> tuple[float, float] | None:
    """Of a difference: the two reaches to each side in quadrature."""
    ends = [fit.interval for fit in fits]
    known = [end for end in ends if end is not None]
    if len(known) < len(ends):
        return None
    if len(known) == 1:
        return known[0]
    down = [fit.exponent - low for fit, (low, _) in zip(fits, known, strict=True)]
    up = [high - fit.exponent for fit, (_, high) in zip(fits, known, strict=True)]
    # the first exponent is as low as can be where the second is as high, and the other way round
    return measured - (down[0] ** 2 + up[1] ** 2) ** 0.5, measured + (
        up[0] ** 2 + down[1] ** 2
    ) ** 0.5


def verdict_of(claim: Claim, interval: tuple[float, float] | None) -> tuple[Verdict, str]:
    """Whether an interval agrees with a claim.

    A claim of equality: the value outside of the interval contradicts; inside, it agrees where the
    interval is no wider than `WIDEST` to either side, else it is undecided. A claim that something
    lies below the value: the whole interval below agrees, above contradicts, else undecided.

    Args:
        claim: What is said.
        interval: What was measured.

    Returns:
        The verdict, and why.

    Example:
        >>> from studies.records import Claim
        >>> verdict_of(Claim("the law", "[WU]", "a", -1.5), (-1.6, -1.3))
        ('agrees', 'the claimed value lies in the interval')
        >>> verdict_of(Claim("the law", "[WU]", "a", -1.5), (-1.0, -0.3))
        ('contradicts', 'the claimed value lies outside of the interval')
    """
    if interval is None:
        return "undecided", "no interval"
    low, high = interval
    if claim.relation == "below":
        if high < claim.value:
            return "agrees", "the whole interval lies below"
        if low >= claim.value:
            return "contradicts", "the whole interval lies above"
        return "undecided", "the interval reaches to both sides"
    if not low <= claim.value <= high:
        return "contradicts", "the claimed value lies outside of the interval"
    if (high - low) / 2 > WIDEST:
        return "undecided", "the interval is too wide"
    return "agrees", "the claimed value lies in the interval"
