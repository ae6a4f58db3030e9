"""How well three points and their seeds determine a minimum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from etastar.fit.bootstrap import percentile_interval, resampled_seeds, student_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["half_width", "minima"]

_NUM_RESAMPLES = 1000


def minima(log_lrs: NDArray[np.float64], curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimum of the parabola through each curve's three points, as `find_optimum` takes it.

    Args:
        log_lrs: (3,), rising.
        curves: (num_curves, 3); may hold +inf.

    Returns:
        (num_curves,): the vertex where the middle point is lowest and all are finite, else the
        lowest point.

    Example:
        >>> import numpy as np
        >>> minima(np.array([-1.0, 0.0, 1.0]), np.array([[4.0, 0.0, 0.0], [1.0, 2.0, 3.0]]))
        array([ 0.5, -1. ])
    """
    lowest = log_lrs[np.argmin(curves, axis=1)]
    left, right = log_lrs[1] - log_lrs[0], log_lrs[2] - log_lrs[1]
    with np.errstate(all="ignore"):
        rises = curves - curves[:, 1:2]
        slope_left, slope_right = rises[:, 0] / left, rises[:, 2] / right
        curvature = (slope_left + slope_right) / (left + right)
        vertices = log_lrs[1] + (curvature * right - slope_right) / (2 * curvature)
    convex = np.isfinite(curves).all(1) & (np.argmin(curves, axis=1) == 1) & (curvature > 0)
    found: NDArray[np.float64] = np.where(convex & np.isfinite(vertices), vertices, lowest)
    return found


def half_width(
    log_lrs: NDArray[np.float64], losses: NDArray[np.float64], *, confidence: float
) -> float:
    """Half the width of the interval of the minimum's log lr.

    The larger of two: that of the bootstrap over seeds, which is too narrow for few seeds, and
    the parabola's own, t sqrt(g' g s^2 / num_seeds): g the derivatives of the vertex with respect
    to the three means, s^2 the variance of the losses that is left when the points' and the seeds'
    means are taken off, t Student's quantile for its 2 (num_seeds - 1) degrees of freedom. With
    a loss that is not finite there is no parabola, and the bootstrap alone counts.

    Args:
        log_lrs: (3,), rising.
        losses: (3, num_seeds), two seeds or more; may hold +inf.
        confidence: Of the interval.

    Returns:
        The half-width in log lr.

    Example:
        >>> import numpy as np
        >>> same = np.array([[1.0, 1.5], [0.0, 0.5], [1.0, 1.5]])
        >>> round(half_width(np.array([-1.0, 0.0, 1.0]), same, confidence=0.95), 12)
        0.0
    """
    losses = _scaled(losses)
    num_seeds = losses.shape[1]
    draws = resampled_seeds(num_seeds, num_resamples=_NUM_RESAMPLES, seed=0)
    means = losses[:, draws].mean(2).T
    low, high = percentile_interval(minima(log_lrs, means), confidence)
    if not np.isfinite(losses).all():
        return (high - low) / 2
    return max((high - low) / 2, _own_half_width(log_lrs, losses, confidence))


def _scaled(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The losses over the largest of them, which moves no minimum and lets no sum overflow."""
    largest = np.abs(losses[np.isfinite(losses)]).max(initial=0.0)
    scaled: NDArray[np.float64] = losses / largest if largest > 0 else losses
    return scaled


def _own_half_width(
    log_lrs: NDArray[np.float64], losses: NDArray[np.float64], confidence: float
) -> float:
    """What the scatter between seeds alone makes of the vertex, to first order."""
    num_seeds = losses.shape[1]
    means = losses.mean(1)
    scatter = losses - means[:, None] - losses.mean(0) + losses.mean()
    freedom = 2 * (num_seeds - 1)
    variance = float((scatter**2).sum()) / freedom
    left, right = log_lrs[1] - log_lrs[0], log_lrs[2] - log_lrs[1]
    slope_left, slope_right = (means[0] - means[1]) / left, (means[2] - means[1]) / right
    total = slope_left + slope_right
    if variance == 0 or total <= 0:
        return 0.0
    # the vertex is right / 2 - (left + right) / 2 * slope_right / total
    outer = (left + right) / 2 / total**2
    at_left, at_right = outer * slope_right / left, -outer * slope_left / right
    gradient = np.array([at_left, -at_left - at_right, at_right])
    deviation = float(np.sqrt(gradient @ gradient * variance / num_seeds))
    return student_quantile((1 + confidence) / 2, freedom) * deviation
