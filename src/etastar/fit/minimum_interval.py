"""Where the minimum of a loss curve may lie: an interval that knows noise and grid.

How this works. A curve that three or five rates do not tell from a parabola may be steep on one
side, or flat at its bottom, and has its minimum elsewhere. So every place c between the rates is
asked: is there a curve with its minimum at c that the losses do not refute? The curves are

    f(x) = a + p (x - c)^2 + q g(x - c),    p, q >= 0,  x = log lr,

the parabola up to 16 times as steep on one side (`_RATIOS`) and g one of `_shapes`: steep or flat
on one side or both, levelling off to the left. A loss
differs from its curve by the noise of the seeds' mean, correlated between neighbouring rates of a
dense grid as it is seen to be, and by `_DISCREPANCY` of its height over the lowest, since no true
curve is of these. The interval is the hull of the places whose chi^2 lies above the least one by no
more than z^2; of few seeds the noise is Student's t over z times as large, and where even the best
curve misfits, z^2 grows by that misfit.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from etastar.fit.bootstrap import scatter_at_rates, student_quantile

if TYPE_CHECKING:
    Array = NDArray[np.float64]

# empirical, by benchmarks/coverage.py and the runs of benchmarks/intervals.py
_DISCREPANCY = 0.1
"""Of a loss from its curve, as a share of how far it lies above the lowest."""
_LEAST_RISE = 0.1
"""The lowest loss counts as this share of the rise that the lower side comes to in two rates."""
_REACH = 1.6
"""How far from the lowest, in log lr, rates are used beyond two while noise hides their rise."""
_HIDDEN = 6.0
"""Standard errors up to which it does."""
_POOLED = 2.0
"""Seeds for which the variance common to all rates stands in the variance of one."""
_LONGEST = 0.6
"""In log lr, over which noise is believed to be correlated; seen: 0.3."""
_PARAMETERS = 4
_DOUBT = 6.0
"""What it adds to chi^2 that the parabola has no part, where the rates are no more than parameters
and any shape would fit."""
_RATIOS = (1, 1 / 16, 1 / 4, 4, 16)
_PLACES = 100
_UPPER = 0.975
_NORMAL = NormalDist().inv_cdf(_UPPER)


def minimum_interval(log_lrs: Array, losses: Array) -> tuple[float, float]:
    """The 95% interval in log lr of the minimum of the mean loss; see the file's beginning.

    Args:
        log_lrs: (num_lrs,), rising.
        losses: (num_lrs, num_seeds), two seeds or more; +inf where a run diverged, but not at
            every rate.

    Returns:
        Lower and upper end. Neither lies beyond the first or last rate, nor beyond a diverged one;
        a flat curve gives all that is between these.

    Example:
        >>> import numpy as np
        >>> x = np.log([0.01, 0.02, 0.04, 0.08, 0.16])
        >>> curve = np.exp(2 * (x - x[2])) - 2 * (x - x[2])  # its minimum is at 0.04
        >>> low, high = np.exp(minimum_interval(x, np.stack([curve, curve + 1], 1)))
        >>> bool(0.02 < low < 0.04 < high < 0.08)
        True
    """
    mean = losses.mean(1)
    lowest = int(np.argmin(mean))
    around = finite_stretch(mean, lowest, len(mean))
    last = min(around.stop, len(mean) - 1)
    ends = float(log_lrs[max(0, around.start - 1)]), float(log_lrs[last])
    x, table, lowest = log_lrs[around], losses[around], lowest - around.start
    if len(x) == 1:
        return ends
    table = table / (float(np.abs(table).max()) or 1.0)
    variances = _mean_variances(table)
    rises = table.mean(1) - table.mean(1)[lowest]
    used = _used(x, rises, variances, lowest)
    rises, x, lowest = rises[used], x[used], lowest - used.start
    grid = _DISCREPANCY * np.maximum(rises, _LEAST_RISE * _lower_rise(rises, lowest))
    share = _correlation(table[used], float(np.median(np.diff(x))))
    freedom = (len(x) - 1) * (losses.shape[1] - 1) * (1 - share) / (1 + share)
    student = student_quantile(_UPPER, max(1, round(freedom)))
    noise = np.sqrt(variances[used]) * student / _NORMAL
    whiten = _whitening(noise, grid, share)
    return ends if whiten is None else _accepted(x, rises, whiten, ends)


def finite_stretch(mean: Array, lowest: int, reach: int) -> slice:
    """The finite losses around the lowest without a gap, at most `reach` to either side."""
    start = stop = lowest
    while start > max(0, lowest - reach) and np.isfinite(mean[start - 1]):
        start -= 1
    while stop < min(len(mean) - 1, lowest + reach) and np.isfinite(mean[stop + 1]):
        stop += 1
    return slice(start, stop + 1)


def _mean_variances(table: Array) -> Array:
    """Variance of each rate's mean over seeds, drawn towards what is common to all rates."""
    freedom = table.shape[1] - 1
    own = scatter_at_rates(table) ** 2
    pooled = np.median(own) / (1 - 2 / (9 * freedom)) ** 3  # the median of chi^2 over its mean
    shrunk: Array = (_POOLED * pooled + freedom * own) / (_POOLED + freedom) / table.shape[1]
    return shrunk


def _used(x: Array, rises: Array, variances: Array, lowest: int) -> slice:
    """Two rates to either side of the lowest, and more while noise hides that the loss rises."""
    hidden = rises < _HIDDEN * np.sqrt(variances + variances[lowest])
    hidden &= np.abs(x - x[lowest]) < _REACH
    start = stop = lowest
    while start > 0 and (lowest - start < 2 or hidden[start]):
        start -= 1
    while stop < len(x) - 1 and (stop - lowest < 2 or hidden[stop]):
        stop += 1
    return slice(start, stop + 1)


def _lower_rise(rises: Array, lowest: int) -> float:
    """What the loss rises by within two rates, on the side where it rises less."""
    sides = rises[max(0, lowest - 2) : lowest], rises[lowest + 1 : lowest + 3]
    return min(float(side.max()) for side in sides if side.size)


def _correlation(table: Array, step: float) -> float:
    """Of the noise of neighbouring rates, from 0 to what `_LONGEST` allows at their distance."""
    rest = table - table.mean(1, keepdims=True)
    rest = rest - np.median(rest, axis=0)
    total = float((rest * rest).sum())
    if not total:
        return 0.0
    seen = float((rest[1:] * rest[:-1]).sum()) / total * len(rest) / (len(rest) - 1)
    return min(max(seen, 0.0), float(np.exp(-step / _LONGEST)))


def _whitening(noise: Array, grid: Array, share: float) -> Array | None:
    """The matrix that gives the losses errors of variance one; None where they have no error."""
    size = np.sqrt(noise**2 + grid**2)
    if not size.min() > 0:
        return None
    apart = np.abs(np.subtract.outer(np.arange(len(size)), np.arange(len(size))))
    covariance = np.outer(noise / size, noise / size) * share**apart + np.diag((grid / size) ** 2)
    inverse: Array = np.linalg.inv(np.linalg.cholesky(covariance)) / size
    return inverse


def _accepted(
    x: Array, rises: Array, whiten: Array, ends: tuple[float, float]
) -> tuple[float, float]:
    """The hull of the places that are not refuted, looked for twice: between the ends, nearer."""
    low, high = ends
    for _ in range(2):
        places = np.linspace(low, high, _PLACES)
        misfit = _misfit(_shapes(x - places[:, None]), rises, whiten)
        least = float(misfit.min())
        kept = np.flatnonzero(
            misfit <= least + _NORMAL**2 * max(1, least / max(1, len(x) - _PARAMETERS))
        )
        step = places[1] - places[0]
        found = float(places[kept[0]]), float(places[kept[-1]])
        low, high = max(ends[0], found[0] - step), min(ends[1], found[1] + step)
    return found


def _shapes(d: Array) -> Array:
    """(num_shapes, ...), each with its minimum 0 at d = 0; the first three parabola and halves."""
    left, right = np.maximum(-d, 0), np.maximum(d, 0)
    shapes = [d**2, left**2, right**2, d**4, left**4, right**4]
    for rate in (-4, -2, 2, 4, 8):
        power = np.minimum(rate * d, 60)  # e^60 is beyond all losses
        shapes.append(np.expm1(power) - rate * d)
    shapes += [right**2 - 2 * t**2 * np.expm1(-(left**2) / (2 * t**2)) for t in (0.7, 1.4)]
    return np.stack(shapes)


def _misfit(shapes: Array, rises: Array, whiten: Array) -> Array:
    """(num_places,), the least chi^2 of a constant, a parabola and one more shape."""
    level = whiten.sum(1) / np.linalg.norm(whiten.sum(1))
    curves, losses = shapes @ whiten.T, whiten @ rises
    curves, losses = curves - (curves @ level)[..., None] * level, losses - losses @ level * level
    along, length = curves @ losses, (curves**2).sum(-1)
    few = len(rises) <= _PARAMETERS
    if few:
        length *= 1 + _DOUBT / max(1e-9, float(losses @ losses))
    explained = np.maximum(along, 0) ** 2 / np.where(length > 0, length, 1)
    for ratio in _RATIOS[:1] if few else _RATIOS:
        base = curves[1] + ratio * curves[2]
        along_base, length_base = base @ losses, (base**2).sum(-1)
        shared = (curves * base).sum(-1)
        det = length_base * length - shared**2
        apart = det > 1e-10 * length_base * length  # else the two are one
        parabola = (length * along_base - shared * along) / np.where(apart, det, 1)
        second = (length_base * along - shared * along_base) / np.where(apart, det, 1)
        inside = apart & (parabola > 0) & (second > 0)
        both = np.where(inside, parabola * along_base + second * along, 0)
        one = np.maximum(along_base, 0) ** 2 / np.where(length_base > 0, length_base, 1)
        explained = np.maximum(explained, np.maximum(both, one))
    misfit: Array = np.maximum(losses @ losses - explained.max(0), 0)
    return misfit
