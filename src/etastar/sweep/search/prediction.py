"""Where the optimum of a size is expected, from the sizes done before."""

from __future__ import annotations

from math import exp, log
from statistics import fmean
from typing import TYPE_CHECKING

from etastar.errors import TrialError

if TYPE_CHECKING:
    from etastar.fit import Optimum
    from etastar.sweep.recipe import Size
    from etastar.sweep.search.base import Context

__all__ = ["depth_of", "predicted_lr"]

# Empirical: what an optimum's log lr is off by with one or two seeds, on the project's networks.
_LOG_LR_NOISE = 0.15


def depth_of(size: Size, context: Context) -> float | None:
    """Effective depth of a size if the context has it, else its "depth", else None.

    Args:
        size: Any size of the sweep.
        context: Where effective depths may be.

    Returns:
        The depth; None when there is none, or it is not positive.

    Example:
        >>> from etastar.sweep.search.base import Context
        >>> size = (("depth", 3), ("width", 16))
        >>> depth_of(size, Context(size, seeds=(0,), optima=(), num_steps=10))
        3.0
        >>> depth_of(size, Context(size, (0,), (), 10, depths=((size, 8.0),)))
        8.0
    """
    depth = dict(context.depths).get(size, dict(size).get("depth"))
    return float(depth) if depth is not None and depth > 0 else None


def predicted_lr(
    context: Context, start: float | None, *, prior_exponent: float, prior_width: float = 1.0
) -> float:
    """The rate that a power law through the optima found so far gives at this depth.

    log eta = mean(log eta_i) + b (log L - mean(log L_i)). The exponent b is the least-squares slope
    with a normal prior on it, so that optima of a single depth give the prior's exponent, and
    depths far apart give their own. Optima at the edge of their range are used only if there
    are no others. Without a depth the last optimum's rate is taken as it is.

    Args:
        context: The size, and the optima of those before.
        start: What is returned when no size has been done.
        prior_exponent: Mean of the prior of b.
        prior_width: Standard deviation of the prior of b.

    Returns:
        The rate.

    Raises:
        TrialError: No size has been done, and `start` is None.

    Example:
        >>> from etastar.fit import find_optimum
        >>> from etastar.sweep.search.base import Context
        >>> done = find_optimum([0.01, 0.1, 1.0], [1.0, 0.0, 1.0])
        >>> context = Context((("depth", 8),), (0,), (((("depth", 2),), done),), 10)
        >>> round(predicted_lr(context, 1.0, prior_exponent=-1.5), 6)
        0.0125
    """
    if not context.optima:
        return _given(start)
    optima = [done for done in context.optima if not done[1].at_edge] or list(context.optima)
    depth = depth_of(context.size, context)
    known = _log_points(optima, context)
    if depth is None or not known:
        return optima[-1][1].lr
    mean_x, mean_y = fmean(x for x, _ in known), fmean(y for _, y in known)
    spread = sum((x - mean_x) ** 2 for x, _ in known) / _LOG_LR_NOISE**2
    moment = sum((x - mean_x) * (y - mean_y) for x, y in known) / _LOG_LR_NOISE**2
    exponent = (moment + prior_exponent / prior_width**2) / (spread + 1 / prior_width**2)
    return exp(mean_y + exponent * (log(depth) - mean_x))


def _given(start: float | None) -> float:
    if start is None:
        raise TrialError(
            "no start for the first size",
            "a learning rate, or one that run_sweep measured",
            "give the search a start, or set Context.start",
        )
    return start


def _log_points(optima: list[tuple[Size, Optimum]], context: Context) -> list[tuple[float, float]]:
    """(log depth, log rate) of the optima whose size has a depth."""
    depths = [(depth_of(size, context), optimum.lr) for size, optimum in optima]
    return [(log(depth), log(lr)) for depth, lr in depths if depth is not None]
