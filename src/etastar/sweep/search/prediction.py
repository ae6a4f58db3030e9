"""Where the optimum of a size is expected, from the sizes done before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etastar.errors import TrialError
from etastar.fit.power_law import power_law_posterior

if TYPE_CHECKING:
    from etastar.sweep.recipe import Size
    from etastar.sweep.search.base import Context

__all__ = ["depth_of", "predicted_lr"]

_PRIOR_SD = 1.0
"""Of the exponent: optima of a single depth give the prior's, depths far apart their own."""


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


def predicted_lr(context: Context, start: float | None, *, prior_exponent: float) -> float:
    """The rate that a power law through the optima found so far gives at this depth.

    By `power_law_posterior`. Optima at the edge of their range are used only if there are no
    others. Without a depth the last optimum's rate is taken as it is.

    Args:
        context: The size, and the optima of those before.
        start: What is returned when no size has been done.
        prior_exponent: Mean of the prior of the exponent.

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
        if start is None:
            raise TrialError(
                "no start for the first size",
                "a learning rate, or one that run_sweep measured",
                "give the search a start, or set Context.start",
            )
        return start
    optima = [done for done in context.optima if not done[1].at_edge] or list(context.optima)
    depth = depth_of(context.size, context)
    known = [(depth_of(size, context), optimum.lr) for size, optimum in optima]
    points = [(at, lr) for at, lr in known if at is not None]
    if depth is None or not points:
        return optima[-1][1].lr
    depths, lrs = zip(*points, strict=True)
    law = power_law_posterior(depths, lrs, prior_exponent=prior_exponent, prior_sd=_PRIOR_SD)
    return law.predict(depth)
