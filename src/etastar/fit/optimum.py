"""The optimal learning rate of one size, from the losses of a grid of rates and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etastar.errors import FitError
from etastar.fit.bootstrap import float_array, resampled_seeds, scatter_at_rates
from etastar.fit.minimum_interval import finite_stretch, minimum_interval
from etastar.formatting import Shown, interval, number
from etastar.typed import require_number

_Method = Literal["quadratic", "lowest point"]

_MIN_POINTS = 3


@dataclass(frozen=True)
class Optimum(Shown):
    """The minimum of a learning-rate curve.

    Attributes:
        lr: Where the minimum is.
        loss: The fitted loss there (of the lowest point itself where no parabola was fitted).
        lowest_lr: The rate of the grid whose mean loss is lowest.
        method: "quadratic", or "lowest point" where the points around it allow no parabola: the
            edge of the range, a diverged neighbour, a fit that is not convex or whose minimum lies
            outside of its points.
        at_edge: Whether the lowest point is the first or last rate of the range; such a minimum is
            no optimum, and the range is to be extended.
        num_seeds: Seeds per rate.
        num_diverged: Runs whose loss is not finite, over all rates and seeds.
        interval: 95% interval of `lr`, see `find_optimum`; None with a single seed.
        resampled_lrs: The minimum of every resample of the seeds; empty with a single seed.
        extrapolated: Whether `loss` lies below that of every run: the parabola's word, seen in no
            run.
        num_stopped: Of a sweep, runs that its time limit ended; they have no loss and count as
            +inf, and are not among `num_diverged`.
        neighbours: The rates of the grid on both sides of `lowest_lr`; None at the edge.
    """

    lr: float
    loss: float
    lowest_lr: float
    method: _Method
    at_edge: bool
    num_seeds: int
    num_diverged: int
    interval: tuple[float, float] | None = None
    resampled_lrs: tuple[float, ...] = ()
    extrapolated: bool = False
    num_stopped: int = 0
    neighbours: tuple[float, float] | None = None

    @property
    def log_lr_sd(self) -> float | None:
        """Standard error of log `lr`, half the 95% interval over 1.96, grid and few seeds included.

        What `Tuned` takes under this name. A single seed has no interval: its minimum may be
        wherever its grid leaves it, between the neighbours of the lowest rate; None at the edge.
        """
        ends = self.interval or self.neighbours
        if ends is None:
            return None
        return log(ends[1] / ends[0]) / (2 * NormalDist().inv_cdf(0.975))

    @property
    def log_variance(self) -> float | None:
        """Variance of log `lr` over the resamples, the seeds' part; None with a single seed."""
        if not self.resampled_lrs:
            return None
        return float(np.var(np.log(self.resampled_lrs)))

    def as_dict(self) -> dict[str, Any]:
        """The fields and properties as plain data for JSON, without the resamples."""
        found = super().as_dict()
        del found["resampled_lrs"]
        return {**found, "log_lr_sd": self.log_lr_sd, "log_variance": self.log_variance}

    def __rich__(self) -> str:
        parts = [f"lr {number(self.lr)}"]
        if self.interval is not None:
            parts.append(f"interval {interval(*self.interval)}")
        below = " (fitted, below every run's)" if self.extrapolated else ""
        parts += [f"loss {number(self.loss)}{below}", self.method]
        if self.at_edge:
            parts.append("at the edge of its range")
        if self.num_diverged:
            parts.append(f"diverged runs: {self.num_diverged}")
        if self.num_stopped:
            parts.append(f"stopped runs: {self.num_stopped}")
        return ", ".join(parts)


def find_optimum(
    lrs: ArrayLike, losses: ArrayLike, *, num_points: int = 3, num_resamples: int = 1000
) -> Optimum:
    """The minimum over log lr of a parabola through the lowest points of the mean loss curve.

    The mean is taken over seeds; a loss that is not finite counts as +inf, so that a rate at which
    any seed diverged has the mean +inf. The parabola goes through the `num_points` rates around
    the lowest one (by least squares for more than three), as far as these are finite without a
    gap; both neighbours of the lowest rate must be among them.

    The 95% interval holds the noise of the seeds and the error of the grid: every place at which
    the losses do not refute that a curve - a parabola with one more shape: steep or flat on one
    side or both, levelling off - has its minimum; `fit/minimum_interval.py` says how. It ends at
    the first and last rate, or at a diverged one. Three rates alone hardly tell a shape, and the
    interval is much of what lies between the lowest one's neighbours; two more make it narrow. How
    often it holds the optimum: benchmarks/results/coverage.md, and of other seeds' real runs,
    intervals.md.

    The resamples hold the noise of the seeds alone, by a smoothed bootstrap. Seeds that are only
    drawn again vary too little where they are few: of two there are three different means, with
    half the variance of a mean. So each loss of a resample that the parabola uses has normal noise
    of variance s_r^2 / num_seeds added, which makes a resampled mean vary as a mean does. s_r^2 is
    the variance over the seeds at rate r of what a loss deviates from the rate's mean, less the
    median of this over the parabola's points: what a seed adds at all rates moves no minimum.

    Args:
        lrs: (num_lrs,), positive, all different, in any order.
        losses: (num_lrs, num_seeds), or (num_lrs,) for a single seed.
        num_points: Odd, 3 or more.
        num_resamples: Bootstrap resamples over seeds. All sizes resample the same seeds together;
            the noise is drawn for each curve by itself.

    Returns:
        The minimum and how far it can be trusted.

    Raises:
        FitError: The shapes do not belong together, a rate is not positive, or every rate diverged.

    Example:
        >>> import numpy as np
        >>> lrs = np.array([0.01, 0.1, 1.0, 10.0])
        >>> optimum = find_optimum(lrs, np.log10(lrs / 0.2) ** 2)
        >>> round(optimum.lr, 12), optimum.method, optimum.at_edge
        (0.2, 'quadratic', False)

    Source: docs/definitions.md, section 5.
    """
    require_number("num_resamples", num_resamples, error=FitError, least=1, whole=True)
    rates, curves = _checked(lrs, losses, num_points)
    mean = curves.mean(1)
    lr, loss, method = _minimum(rates, mean, num_points)
    lowest = int(np.argmin(mean))
    around = finite_stretch(mean, lowest, num_points // 2)
    resampled = _resampled_minima(rates, curves, around, num_points, num_resamples)
    at_edge = lowest in (0, len(mean) - 1)
    return Optimum(
        lr=lr,
        loss=loss,
        lowest_lr=float(rates[lowest]),
        method=method,
        at_edge=at_edge,
        num_seeds=curves.shape[1],
        num_diverged=int(np.isinf(curves).sum()),
        interval=_interval(rates, curves, lr),
        resampled_lrs=tuple(resampled.tolist()),
        extrapolated=bool(loss < curves.min()),
        neighbours=None if at_edge else (float(rates[lowest - 1]), float(rates[lowest + 1])),
    )


def _checked(
    lrs: ArrayLike, losses: ArrayLike, num_points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates in rising order and their losses (num_lrs, num_seeds), what is not finite +inf."""
    rates, curves = float_array("rates", lrs), float_array("losses", losses)
    curves = curves[:, None] if curves.ndim == 1 else curves
    if rates.ndim != 1 or curves.ndim != 2 or len(rates) != len(curves) or curves.size == 0:
        raise FitError(
            f"rates of shape {rates.shape}, losses of shape {np.shape(losses)}",
            "rates (num_lrs,) and losses (num_lrs, num_seeds), neither empty",
            "give one row of losses per rate",
        )
    valid = np.isfinite(rates).all() and (rates > 0).all()
    if not valid or len(np.unique(rates)) < len(rates):
        raise FitError(f"rates {rates}", "positive rates, each once", "mend the rates")
    whole = isinstance(num_points, int) and num_points >= _MIN_POINTS
    if not whole or num_points % 2 == 0:
        raise FitError(
            f"num_points={num_points!r}", "an odd number, 3 or more", "change num_points"
        )
    curves = np.where(np.isfinite(curves), curves, np.inf)
    if np.isinf(curves).any(1).all():
        raise FitError(
            "losses of which every rate has a diverged run",
            "one rate at which no seed diverged",
            "extend the range to lower rates",
        )
    order = np.argsort(rates)
    return rates[order], curves[order]


def _minimum(
    rates: NDArray[np.float64], mean: NDArray[np.float64], num_points: int
) -> tuple[float, float, _Method]:
    """Where the minimum of one curve is, the loss there, and how it was found."""
    lowest = int(np.argmin(mean))
    around = finite_stretch(mean, lowest, num_points // 2)
    if around.start < lowest < around.stop - 1:
        found = parabola_vertex(np.log(rates[around] / rates[lowest]), mean[around])
        if found is not None:
            return float(rates[lowest] * np.exp(found[0])), found[1], "quadratic"
    return float(rates[lowest]), float(mean[lowest]), "lowest point"


def parabola_vertex(
    x: NDArray[np.float64], heights: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Where the parabola of least squares through points has its minimum, and its height.

    None if it is not convex, or has its minimum outside of the points, which are rising.

    Example:
        >>> import numpy as np
        >>> where, height = parabola_vertex(np.array([-1.0, 0.0, 1.0]), np.array([4.0, 0.0, 0.0]))
        >>> round(where, 12), round(height, 12)
        (0.5, -0.5)
    """
    # both axes are centred and scaled: the same parabola, but well conditioned
    width, lowest, height = np.ptp(x), heights.min(), float(np.ptp(heights)) or 1.0
    scaled = x / width
    curvature, slope, offset = np.polyfit(scaled, (heights - lowest) / height, 2)
    if not curvature > np.finfo(np.float64).eps * len(x):
        return None
    vertex = -slope / (2 * curvature)
    if not scaled[0] <= vertex <= scaled[-1]:
        return None
    return float(width * vertex), float(lowest + height * (offset + slope * vertex / 2))


def _resampled_minima(
    rates: NDArray[np.float64],
    curves: NDArray[np.float64],
    around: slice,
    num_points: int,
    num_resamples: int,
) -> NDArray[np.float64]:
    """The optimal rate of each smoothed resample of the seeds; none with a single seed."""
    num_seeds = curves.shape[1]
    if num_seeds == 1:
        return np.empty(0)
    # a mean of num_seeds losses, each with noise of variance s_r^2 / num_seeds
    deviations = np.zeros(len(rates))
    deviations[around] = scatter_at_rates(curves[around]) / num_seeds
    # coarsely of the losses: other sizes draw other noise, losses equal up to rounding the same
    key = f"{deviations.max():.2g} {curves.mean(1).min():.3g}"
    noise = np.random.default_rng([0, crc32(key.encode())])
    draws = resampled_seeds(num_seeds, num_resamples=num_resamples)
    means = (curves[:, draw].mean(1) for draw in draws)
    return np.array(
        [
            _minimum(rates, mean + deviations * noise.standard_normal(len(rates)), num_points)[0]
            for mean in means
        ]
    )


def _interval(
    rates: NDArray[np.float64], curves: NDArray[np.float64], lr: float
) -> tuple[float, float] | None:
    """The minimum's interval, which holds the minimum that is given; none of a single seed."""
    if curves.shape[1] == 1:
        return None
    low, high = np.exp(minimum_interval(np.log(rates), curves))
    low, high = max(float(low), float(rates[0])), min(float(high), float(rates[-1]))
    return min(low, lr), max(high, lr)
