"""A power law through the optimal learning rates of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from etastar.errors import FitError
from etastar.fit.bootstrap import percentile_interval, require_bootstrap
from etastar.fit.optimum import Optimum

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PowerLawFit", "fit_power_law"]

Optima: TypeAlias = Sequence[Optimum] | Sequence[float]

_MIN_SIZES = 2


@dataclass(frozen=True)
class PowerLawFit:
    """eta* = exp(intercept) * size^exponent.

    Attributes:
        intercept: a, the log of the rate at size 1.
        exponent: b.
        exponent_interval: Interval of b; None when the optima came without variances.
        exponent_variance: Variance of b, from the bootstrap or from the optima's variances; None
            when the optima came without.
        r_squared: Weighted share of the variance of log eta* that the line explains; 1 by
            necessity for two sizes.
        sizes: All sizes, as given.
        lrs: All optimal rates, as given.
        weights: Weight of each size in the fit; they sum to one.
        edge_sizes: Sizes whose optimum was at the edge of its range; they are kept in the fit, and
            make it less trustworthy.
    """

    intercept: float
    exponent: float
    exponent_interval: tuple[float, float] | None
    exponent_variance: float | None
    r_squared: float
    sizes: tuple[float, ...]
    lrs: tuple[float, ...]
    weights: tuple[float, ...]
    edge_sizes: tuple[float, ...] = ()

    def predict(self, size: float) -> float:
        """The rate that the line gives at a size.

        Args:
            size: Positive, in the unit of `sizes`.

        Returns:
            exp(intercept) * size^exponent.

        Example:
            >>> round(fit_power_law([1, 4], [1.0, 0.5]).predict(16), 12)
            0.25
        """
        return float(np.exp(self.intercept + self.exponent * np.log(size)))


def fit_power_law(
    sizes: ArrayLike,
    optima: Optima,
    *,
    variances: ArrayLike | None = None,
    variance_floor: float = 1e-4,
    confidence: float = 0.95,
) -> PowerLawFit:
    """Least squares of log eta* = a + b log size, weighted by the optima's variances.

    No point is left out. The interval of b comes from refitting the optima's own bootstrap
    resamples over seeds; where only variances are given, from the normal distribution that they
    imply; where neither is, there is none and all weights are equal.

    Args:
        sizes: (num_sizes,), positive, such as effective depths.
        optima: What `find_optimum` found at each size, or the bare rates.
        variances: (num_sizes,) variances of log eta*, in place of the optima's own.
        variance_floor: Least variance of log eta* that is believed (1e-4 is one percent of the
            rate), so that a size whose seeds happen to agree does not take the whole fit.
        confidence: Of the interval.

    Returns:
        The line, its interval, and the points.

    Raises:
        FitError: Fewer than two different sizes, or something is not positive.

    Example:
        >>> fit = fit_power_law([2, 8, 32], [1.0, 0.125, 0.015625])
        >>> round(fit.exponent, 12), round(fit.r_squared, 12)
        (-1.5, 1.0)

    Source: docs/definitions.md, section 5.
    """
    require_bootstrap(confidence, 1)
    x, y = _logs(sizes, _rates(optima))
    known = _variances(optima, variances, len(x))
    weights = _weights(known, variance_floor, len(x))
    intercept, exponent = _line(x, y, weights)
    interval, variance = _spread(
        x,
        weights,
        exponent,
        slopes=np.empty(0) if variances is not None else _resampled_slopes(x, optima, weights),
        variances=None if known is None else np.maximum(known, variance_floor),
        confidence=confidence,
    )
    flags = [isinstance(optimum, Optimum) and optimum.at_edge for optimum in optima]
    given = [float(size) for size in np.asarray(sizes, dtype=np.float64)]
    return PowerLawFit(
        intercept=intercept,
        exponent=exponent,
        exponent_interval=interval,
        exponent_variance=variance,
        r_squared=_r_squared(y, intercept + exponent * x, weights),
        sizes=tuple(given),
        lrs=tuple(_rates(optima)),
        weights=tuple(weights.tolist()),
        edge_sizes=tuple(size for size, flag in zip(given, flags, strict=True) if flag),
    )


def _rates(optima: Optima) -> list[float]:
    return [float(o.lr if isinstance(o, Optimum) else o) for o in optima]


def _logs(sizes: ArrayLike, rates: list[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log sizes and log rates, (num_sizes,) both."""
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(rates)
    both = np.concatenate([x.ravel(), y])
    if x.ndim != 1 or len(x) != len(y) or not (np.isfinite(both).all() and (both > 0).all()):
        raise FitError(
            f"sizes {sizes!r} and rates {rates}",
            "as many positive sizes as positive rates",
            "give one optimum per size",
        )
    if len(np.unique(x)) < _MIN_SIZES:
        raise FitError(f"sizes {sizes!r}", "two different sizes or more", "tune another size")
    return np.log(x), np.log(y)


def _variances(
    optima: Optima, variances: ArrayLike | None, num_sizes: int
) -> NDArray[np.float64] | None:
    """Variances of the log rates: the caller's, else the optima's; None unless all are known."""
    if variances is None:
        own = [o.log_variance if isinstance(o, Optimum) else None for o in optima]
        known = [variance for variance in own if variance is not None]
        return np.array(known) if len(known) == num_sizes else None
    given = np.asarray(variances, dtype=np.float64)
    if given.shape != (num_sizes,) or not (np.isfinite(given).all() and (given >= 0).all()):
        raise FitError(
            f"variances {variances!r}",
            f"{num_sizes} finite variances of 0 or more",
            "give one per size",
        )
    return given


def _weights(
    variances: NDArray[np.float64] | None, variance_floor: float, num_sizes: int
) -> NDArray[np.float64]:
    if not variance_floor > 0:
        raise FitError(f"variance_floor={variance_floor}", "more than 0", "raise it")
    if variances is None:
        return np.full(num_sizes, 1 / num_sizes)
    precision: NDArray[np.float64] = 1 / np.maximum(variances, variance_floor)
    return precision / np.sum(precision)


def _line(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Intercept and slope of the weighted least squares."""
    centred = x - weights @ x
    slope = float((weights * centred) @ y / ((weights * centred) @ centred))
    return float(weights @ y - slope * (weights @ x)), slope


def _resampled_slopes(
    x: NDArray[np.float64], optima: Optima, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Exponent of each bootstrap resample of the optima; none unless all have equally many."""
    resamples = [o.resampled_lrs if isinstance(o, Optimum) else () for o in optima]
    if len({len(resample) for resample in resamples}) > 1 or not resamples[0]:
        return np.empty(0)
    return np.array([_line(x, y, weights)[1] for y in np.log(np.array(resamples)).T])


def _spread(
    x: NDArray[np.float64],
    weights: NDArray[np.float64],
    exponent: float,
    *,
    slopes: NDArray[np.float64],
    variances: NDArray[np.float64] | None,
    confidence: float,
) -> tuple[tuple[float, float] | None, float | None]:
    """Interval and variance of b."""
    if len(slopes):
        return percentile_interval(slopes, confidence), float(slopes.var())
    if variances is None:
        return None, None
    centred = weights * (x - weights @ x)
    variance = float(centred**2 @ variances / (centred @ x) ** 2)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * variance**0.5
    return (exponent - reach, exponent + reach), variance


def _r_squared(
    y: NDArray[np.float64], fitted: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """1 - residual / total sum of squares; 1 for rates that are all equal up to rounding."""
    total = float(weights @ (y - weights @ y) ** 2)
    if total <= (np.finfo(np.float64).eps * len(y)) ** 2 * max(1.0, float(np.square(y).max())):
        return 1.0
    return 1 - float(weights @ (y - fitted) ** 2) / total
