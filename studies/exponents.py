"""Exponents of a family's optima, with two kinds of interval."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from etastar.fit import Optimum, fit_power_law
from etastar.sweep.result import SizeResult
from studies.network import axis_value
from studies.records import ExponentFit, Neighbours

if TYPE_CHECKING:
    from studies.declaration import Family

NOISE = 0.15
"""Least standard deviation of a tuned log rate that is believed, that of `power_law_posterior`:
with two or three seeds the bootstrap variance of a single size is no measure of anything."""

_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
"""Quantiles at 97.5% by degrees of freedom, from any table of Student's t; beyond, the last. The
stored intervals are these; the fit's own approximation is 3% lower with 2 degrees of freedom."""
_LEAST_SIZES = 2


def family_fits(
    family: Family, sizes: Sequence[SizeResult]
) -> tuple[tuple[tuple[str, tuple[float, ...]], ...], tuple[ExponentFit, ...]]:
    """Where the sizes lie on each axis of a family, and the power laws through their optima.

    Args:
        family: The declaration.
        sizes: Runs and optima.

    Returns:
        Axes with the values of the sizes; one fit for each axis on which two optima differ.
    """
    axes, fits = [], []
    for axis in family.axes:
        values = tuple(axis_value(family.network, one.size, axis) for one in sizes)
        axes.append((str(axis), values))
        fit = exponent_fit(axis, values, [one.optimum for one in sizes])
        fits += [] if fit is None else [fit]
    return tuple(axes), tuple(fits)


def exponent_fit(
    axis: str, values: Sequence[float], optima: Sequence[Optimum | None]
) -> ExponentFit | None:
    """Weighted least squares of log rate on log value, by `fit_power_law`.

    Args:
        axis: Name of the axis.
        values: Where the sizes lie on it, positive.
        optima: Of the sizes; None where every rate diverged, which is left out and flagged.

    Returns:
        The fit; None when fewer than two different values have an optimum.

    Example:
        >>> from etastar.fit import find_optimum
        >>> lrs = [0.01, 0.1, 1.0, 10.0]
        >>> optima = [find_optimum(lrs, np.log(np.array(lrs) * d) ** 2) for d in (2.0, 4.0, 8.0)]
        >>> fit = exponent_fit("effective-depth", [2, 4, 8], optima)
        >>> round(fit.exponent, 9), fit.interval is not None, fit.flags
        (-1.0, True, ())
    """
    points = sorted(
        ((v, o) for v, o in zip(values, optima, strict=True) if o is not None), key=_value
    )
    x = [value for value, _ in points]
    if len(set(x)) < _LEAST_SIZES:
        return None
    found = [optimum for _, optimum in points]
    fit = fit_power_law(x, found, variance_floor=NOISE**2)
    raised = {
        "edge": bool(fit.edge_sizes),
        "no optimum": len(points) < len(values),
        "two sizes": len(set(x)) == _LEAST_SIZES,
    }
    return ExponentFit(
        axis=axis,
        exponent=fit.exponent,
        seed_interval=fit.exponent_interval,
        scatter_interval=_scatter_interval(x, fit.lrs, fit.weights, fit.exponent),
        r_squared=fit.r_squared,
        neighbours=tuple(
            _neighbours(*pair) for pair in pairwise(points) if pair[0][0] < pair[1][0]
        ),
        flags=tuple(flag for flag, is_raised in raised.items() if is_raised),
    )


def _value(point: tuple[float, Optimum]) -> float:
    return point[0]


def _scatter_interval(
    sizes: Sequence[float], lrs: Sequence[float], weights: Sequence[float], exponent: float
) -> tuple[float, float] | None:
    """Slope +- t sqrt(sum w r^2 / ((n - 2) sum w x^2)), weights w that sum to one."""
    freedom = len(sizes) - 2
    if freedom < 1:
        return None
    x, y, w = np.log(sizes), np.log(lrs), np.array(weights)
    x, y = x - w @ x, y - w @ y
    variance = float(w @ (y - exponent * x) ** 2) / (freedom * float(w @ x**2))
    reach = _STUDENT.get(freedom, _STUDENT[max(_STUDENT)]) * variance**0.5
    return exponent - reach, exponent + reach


def _neighbours(first: tuple[float, Optimum], second: tuple[float, Optimum]) -> Neighbours:
    (x0, one), (x1, other) = first, second
    between = fit_power_law([x0, x1], [one, other])
    return Neighbours(x0, x1, between.exponent, between.exponent_interval)
