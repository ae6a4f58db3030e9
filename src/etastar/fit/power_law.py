"""A power law through the optima of several sizes: from the data alone, or with a prior."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etastar.errors import FitError
from etastar.fit.bootstrap import float_array
from etastar.fit.optimum import Optimum
from etastar.formatting import Shown, interval, number
from etastar.typed import require_number

Optima: TypeAlias = Sequence[Optimum] | Sequence[float]

_MIN_SIZES = 2


@dataclass(frozen=True)
class PowerLawFit(Shown):
    """eta* = exp(intercept) * size^exponent.

    Attributes:
        intercept: a, the log of the rate at size 1.
        exponent: b.
        exponent_interval: 95% interval of b; None when an optimum has no interval.
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
    r_squared: float
    sizes: tuple[float, ...]
    lrs: tuple[float, ...]
    weights: tuple[float, ...]
    edge_sizes: tuple[float, ...] = ()

    def predict(self, size: float) -> float:
        """The rate that the line gives at a positive size: exp(intercept) * size^exponent.

        Example:
            >>> round(fit_power_law([1, 4], [1.0, 0.5]).predict(16), 12)
            0.25
        """
        return float(np.exp(self.intercept + self.exponent * _log(size)))

    def __rich__(self) -> str:
        parts = [f"lr ~ size^{self.exponent:.3f}"]
        if self.exponent_interval is not None:
            parts.append(f"interval {interval(*self.exponent_interval)}")
        parts += [f"r^2 {self.r_squared:.3f}", f"{len(self.sizes)} sizes"]
        if self.edge_sizes:
            parts.append(f"at the edge at {', '.join(map(number, self.edge_sizes))}")
        return ", ".join(parts)


def fit_power_law(sizes: ArrayLike, optima: Optima, *, variance_floor: float = 1e-4) -> PowerLawFit:
    """Least squares of log eta* = a + b log size, weighted by what `log_lr_sd` says of the optima.

    No point is left out. b = sum_i c_i log eta*_i, and its 95% interval reaches to either side by
    sqrt(sum_i (c_i r_i)^2), r_i being how far the interval of optimum i reaches to the side that
    moves b there: so it has their t of few seeds and their error of the grid. Sizes count as
    independent: what the same seeds move alike at all of them leaves b, so that the interval is too
    wide there rather than too narrow, but two or four seeds do not tell how much that is. Of bare
    rates, or where a size has a single seed, there is no interval and all weights are equal.

    Args:
        sizes: (num_sizes,), positive, such as effective depths.
        optima: What `find_optimum` found at each size, or the bare rates.
        variance_floor: Least variance of log eta* that is believed (1e-4 is one percent of the
            rate), so that a size whose seeds happen to agree does not take the whole fit.

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
    rates = _rates(optima)
    x, y = _logs(sizes, rates)
    if len(np.unique(x)) < _MIN_SIZES:
        raise FitError(f"sizes {sizes!r}", "two different sizes or more", "tune another size")
    weights = _weights(optima, variance_floor)
    intercept, exponent = _line(x, y, weights)
    flags = [isinstance(optimum, Optimum) and optimum.at_edge for optimum in optima]
    given = float_array("sizes", sizes).tolist()
    return PowerLawFit(
        intercept=intercept,
        exponent=exponent,
        exponent_interval=_slope_interval(x, optima, weights, exponent),
        r_squared=_r_squared(y, intercept + exponent * x, weights),
        sizes=tuple(given),
        lrs=tuple(rates),
        weights=tuple(weights.tolist()),
        edge_sizes=tuple(size for size, flag in zip(given, flags, strict=True) if flag),
    )


def _rates(optima: Optima) -> list[float]:
    rates: Any = optima
    if isinstance(optima, Iterable):
        rates = [o.lr if isinstance(o, Optimum) else o for o in optima]
    return [*np.atleast_1d(float_array("optima", rates)).tolist()]


def _logs(sizes: ArrayLike, lrs: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log sizes and log rates, (num_sizes,) both."""
    x, y = float_array("sizes", sizes), float_array("rates", lrs)
    both = np.concatenate([x.ravel(), y.ravel()])
    fits = x.ndim == 1 and x.size and x.shape == y.shape
    if not (fits and np.isfinite(both).all() and (both > 0).all()):
        raise FitError(
            f"sizes {x.tolist()} and rates {y.tolist()}",
            "as many positive sizes as positive rates, at least one",
            "give one optimum per size; leave out sizes without one",
        )
    return np.log(x), np.log(y)


def _log(size: float) -> float:
    return float(np.log(require_number("size", size, error=FitError, above=0)))


def _weights(optima: Optima, variance_floor: float) -> NDArray[np.float64]:
    """Inverse variances of the log rates, of sum one; equal unless all are known."""
    variance_floor = require_number("variance_floor", variance_floor, error=FitError, above=0)
    errors = [o.log_lr_sd if isinstance(o, Optimum) and o.interval else None for o in optima]
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return np.full(len(errors), 1 / len(errors))
    precision: NDArray[np.float64] = 1 / np.maximum(np.square(known), variance_floor)
    return precision / np.sum(precision)


def _line(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Intercept and slope of the weighted least squares."""
    centred = x - weights @ x
    slope = float((weights * centred) @ y / ((weights * centred) @ centred))
    return float(weights @ y - slope * (weights @ x)), slope


def _slope_interval(
    x: NDArray[np.float64], optima: Optima, weights: NDArray[np.float64], slope: float
) -> tuple[float, float] | None:
    """The reaches of the optima to the side that moves the slope so, in quadrature."""
    ends = [o.interval for o in optima if isinstance(o, Optimum) and o.interval is not None]
    if len(ends) < len(x):
        return None
    centred = weights * (x - weights @ x)
    share = centred / (centred @ x)
    low, high = np.log(np.array(ends).T / np.array(_rates(optima)))
    up = np.where(share > 0, high, low) * share
    down = np.where(share > 0, low, high) * share
    return slope - float(np.linalg.norm(down)), slope + float(np.linalg.norm(up))


def _r_squared(
    y: NDArray[np.float64], fitted: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """1 - residual / total sum of squares; 1 for rates that are all equal up to rounding."""
    total = float(weights @ (y - weights @ y) ** 2)
    if total <= (np.finfo(np.float64).eps * len(y)) ** 2 * max(1.0, float(np.square(y).max())):
        return 1.0
    return 1 - float(weights @ (y - fitted) ** 2) / total


@dataclass(frozen=True)
class PowerLawPosterior:
    """Posterior of log lr = a + b log L.

    Attributes:
        exponent: Posterior mean of b.
        exponent_sd: Posterior standard deviation of b.
        center_log_size: Weighted mean of log L.
        center_log_lr: Weighted mean of log lr.
        center_variance: Variance of the line at the center.
        noise_variance: Variance of one optimum about the line.
    """

    exponent: float
    exponent_sd: float
    center_log_size: float
    center_log_lr: float
    center_variance: float
    noise_variance: float

    def predict(self, size: float) -> float:
        """Learning rate of a positive size: exp of the posterior mean of its logarithm."""
        step = _log(size) - self.center_log_size
        return float(np.exp(self.center_log_lr + self.exponent * step))

    def line_variance(self, size: float) -> float:
        """Variance of the line's log learning rate at a positive size."""
        return self.center_variance + (self.exponent_sd * (_log(size) - self.center_log_size)) ** 2

    def interval(self, size: float) -> tuple[float, float]:
        """95% predictive interval of the optimal learning rate of a positive size.

        Normal, for variances that are known: Student's t of few seeds is in the variances of the
        tuned rates where these are `Optimum.log_lr_sd` squared.
        """
        variance = self.line_variance(size) + self.noise_variance
        reach = NormalDist().inv_cdf(0.975) * float(np.sqrt(variance))
        lr = self.predict(size)
        return lr * float(np.exp(-reach)), lr * float(np.exp(reach))


def power_law_posterior(
    sizes: ArrayLike,
    lrs: ArrayLike,
    *,
    prior_exponent: float = -1.5,
    prior_sd: float = 0.5,
    variances: ArrayLike | None = None,
    noise: float = 0.15,
) -> PowerLawPosterior:
    """Posterior of a power law through tuned sizes, the prior of its exponent at a law's.

    log lr_i = a + b log L_i + e_i, e_i ~ N(0, v_i), a flat, b ~ N(prior_exponent, prior_sd^2). With
    w_i = 1 / v_i and weighted means and sums, b has precision S_xx + 1 / prior_sd^2.

    Args:
        sizes: L of each tuned size, positive.
        lrs: Tuned learning rates, positive.
        prior_exponent: Exponent of the law.
        prior_sd: Standard deviation of the prior; small trusts the law, large the data.
        variances: v_i, variance of each log lr, such as `Optimum.log_lr_sd` squared, which has the
            t of few seeds and the error of the grid; None for `noise` squared.
        noise: Standard deviation of a tuned log lr where no variance is known, and its floor;
            about a tenth of an octave on a grid of factor 2 (a choice, not measured).

    Returns:
        The posterior.

    Raises:
        FitError: Not one positive number per size, or a prior or noise that is not positive.

    Example:
        >>> one = power_law_posterior([4], [0.1])
        >>> one.exponent, round(one.predict(16), 6)
        (-1.5, 0.0125)

    Source: docs/definitions.md, section 5.
    """
    x, y = _logs(sizes, lrs)
    given = np.zeros_like(x) if variances is None else float_array("variances", variances)
    if given.shape != x.shape or not (np.isfinite(given).all() and (given >= 0).all()):
        raise FitError(
            f"variances {variances!r}",
            f"{len(x)} finite variances of 0 or more",
            "give one per size",
        )
    prior_exponent = require_number("prior_exponent", prior_exponent, error=FitError)
    prior_sd = require_number("prior_sd", prior_sd, error=FitError, above=0)
    noise = require_number("noise", noise, error=FitError, above=0)
    v = np.maximum(given, noise**2)
    weights = 1 / v
    total = weights.sum()
    center_x, center_y = float(weights @ x / total), float(weights @ y / total)
    spread = float(weights @ (x - center_x) ** 2)
    slope = float(weights @ ((x - center_x) * (y - center_y)))
    precision = spread + prior_sd**-2
    return PowerLawPosterior(
        exponent=(slope + prior_exponent * prior_sd**-2) / precision,
        exponent_sd=precision**-0.5,
        center_log_size=center_x,
        center_log_lr=center_y,
        center_variance=float(1 / total),
        noise_variance=float(v.mean()),
    )
