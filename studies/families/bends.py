"""Whether the best rate leaves a straight line over log depth, which a power law is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log, sqrt
from typing import Final

import numpy as np

from etastar.transfer.experience import Parametrization
from studies.families.curves import FamilyCurves

_LEAST_SIZES: Final = 3  # three make a parabola


@dataclass(frozen=True)
class Bend:
    """How much an exponent changes when the depth doubles.

    Attributes:
        value: 2 c log 2 of log lr = a + b log L + c (log L)^2.
        sd: Standard deviation that the optima's own errors give it.
    """

    value: float
    sd: float


@dataclass(frozen=True)
class CommonBend:
    """What the bends of many families say together.

    Attributes:
        mean: Mean weighted by 1 / sd^2.
        sd: Of the mean, by the optima's own errors.
        misfit: sum ((value - mean) / sd)^2: about `freedom` if the families bend alike, more if
            they bend each in its own way.
        freedom: Families less one.
    """

    mean: float
    sd: float
    misfit: float
    freedom: int


def bend(depths: Sequence[float], lrs: Sequence[float], sds: Sequence[float]) -> Bend | None:
    """The bend of a curve of optima, by least squares with weights 1 / sd^2.

    Args:
        depths: Effective depths.
        lrs: Best rates.
        sds: Standard deviations of their logarithms.

    Returns:
        The bend; None with fewer than three depths.

    Example:
        >>> found = bend([2, 4, 8], [1.0, 0.5, 0.125], [0.1, 0.1, 0.1])  # exponents -1, then -2
        >>> round(found.value, 9), round(found.sd * log(2), 9)  # (6 * 0.1^2)^(1/2) between them
        (-1.0, 0.244948974)
    """
    if len(set(depths)) < _LEAST_SIZES:
        return None
    x = np.log(depths) - np.mean(np.log(depths))
    weights = 1 / np.square(sds)
    terms = np.stack([np.ones_like(x), x, x**2])
    spread = np.linalg.inv(terms * weights @ terms.T)
    found = spread @ (terms * weights @ np.log(lrs))
    scale = 2 * log(2)
    return Bend(scale * float(found[2]), scale * sqrt(float(spread[2, 2])))


def bends(curves: FamilyCurves) -> Iterator[tuple[Parametrization, Bend]]:
    """The bend of each parametrization of a family, over its well-posed sizes.

    Args:
        curves: Of the family.

    Yields:
        Parametrization and bend, where there are three such sizes.
    """
    for parametrization in curves.family.parametrizations:
        found = [
            (curves.effective_depth(depth), curve.optimum.lr, curve.log_sd)
            for depth in curves.family.sizes(curves.scale)
            if curves.well_posed(parametrization, depth)
            and (curve := curves.curve(parametrization, depth)) is not None
        ]
        if found and (one := bend(*zip(*found, strict=True))) is not None and isfinite(one.value):
            yield parametrization, one


def common_bend(found: Sequence[Bend]) -> CommonBend:
    """What bends have in common.

    Args:
        found: Of families, at least one.

    Returns:
        Their weighted mean, and how far they are from it.

    Example:
        >>> common_bend([Bend(-0.5, 0.5), Bend(0.5, 0.5)])
        CommonBend(mean=0.0, sd=0.3535533905932738, misfit=2.0, freedom=1)
    """
    weights = [one.sd**-2 for one in found]
    mean = sum(w * one.value for w, one in zip(weights, found, strict=True)) / sum(weights)
    misfit = sum(((one.value - mean) / one.sd) ** 2 for one in found)
    return CommonBend(mean, sum(weights) ** -0.5, misfit, len(found) - 1)


def bends_section(found: Mapping[tuple[str, Parametrization], Bend]) -> str:
    """The bends as a section of the families' page.

    Args:
        found: By family and parametrization.

    Returns:
        Markdown; "" without a bend.
    """
    if not found:
        return ""
    own = common_bend([one for (_, name), one in found.items() if name == "own"])
    rows = "".join(
        f"| {family} | {parametrization} | {one.value:+.2f} ± {one.sd:.2f} |\n"
        for (family, parametrization), one in found.items()
    )
    return _SECTION.format(own=own, families=own.freedom + 1) + rows


_SECTION: Final = """
## Do the lines bend?

Change of the exponent when the depth doubles, from a parabola through the optima of three or more
well-posed sizes; ± is the standard deviation that the optima's own errors give it. Under their own
initialization {families} families have {own.mean:+.2f} ± {own.sd:.2f} in common. Squared errors
about that sum to {own.misfit:.1f}; {own.freedom} are expected if all bend alike, more if each bends
in its own way.

| family | parametrization | bend |
| --- | --- | --- |
"""
