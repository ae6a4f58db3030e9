"""Flat, growing or shrinking: the exponent of a quantity against the size, and what it means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from etastar.coordinates.coordinate_report import INIT, Trend
from etastar.coordinates.probing import ADDITION, LOGITS
from etastar.fit.bootstrap import percentile_interval, resampled_seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etastar.coordinates.coordinate_report import AxisKind, LayerCheck, Verdict

__all__ = ["BAND", "known_exception", "trend_of", "verdict_of"]

BAND: Final = 0.2
"""Largest exponent called flat. Theory's wrong exponents are 1/2 and 1; empirical: with the right
rule the zoo's networks at widths 32 to 256 and depths 2 to 16 stay within 0.17. The tests of the
authors' package allow a factor of 1.2 from width 1000 to 4000, an exponent of 0.13."""

_BRANCH = -1.0  # the branch multiplier of [CP]
_READOUT = -0.5  # exponent of muP's readout and attention logits at initialization [TP5]


def trend_of(moments: NDArray[np.float64], sizes: Sequence[int]) -> Trend:
    """Exponent of a quantity against the size, with an interval over seeds.

    A step at which the quantity is zero at every size and seed (what lies before a readout of
    zeros does not move at the first step) says nothing and is left out of the exponent; a quantity
    that is zero throughout is flat.

    Args:
        moments: Mean z^2, (seeds, steps, sizes).
        sizes: The sizes, ascending.

    Returns:
        The trend.

    Example:
        >>> import numpy as np
        >>> trend = trend_of(np.array([[[1.0, 4.0, 16.0]]]), [8, 16, 32])
        >>> round(trend.exponent, 12), trend.verdict, trend.curves
        (1.0, 'grows', ((1.0, 2.0, 4.0),))
    """
    mean = moments.mean(axis=0)
    moving = mean.any(axis=1)
    exponent = float(_exponents(mean[None], moving, sizes)[0])
    interval = None
    if len(moments) > 1:
        draws = resampled_seeds(len(moments))
        interval = _interval(_exponents(moments[draws].mean(axis=1), moving, sizes))
    return Trend(
        exponent=exponent,
        interval=interval,
        verdict=verdict_of(exponent, interval),
        curves=tuple(map(tuple, np.sqrt(mean).tolist())),
    )


def _exponents(
    moments: NDArray[np.float64], moving: NDArray[np.bool_], sizes: Sequence[int]
) -> NDArray[np.float64]:
    """Slopes against log size, mean over steps; moments are (draws, steps, sizes)."""
    if not moving.any():
        return np.zeros(len(moments))
    kept = moments[:, moving]
    with np.errstate(divide="ignore", invalid="ignore"):
        y = 0.5 * np.log(kept)
        x = np.log(np.asarray(sizes, dtype=np.float64))
        x -= x.mean()
        slopes = (y @ x / (x @ x)).mean(axis=1)
    slopes[~np.isfinite(slopes)] = np.nan
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(kept), axis=1)  # (draws, sizes)
    ends = np.where(finite[:, -1], -np.inf, np.inf)
    return np.where(np.logical_and.reduce(finite, axis=1), slopes, ends)


def _interval(exponents: NDArray[np.float64]) -> tuple[float, float]:
    if np.isnan(exponents).any():
        return -math.inf, math.inf
    return percentile_interval(exponents)


def verdict_of(exponent: float, interval: tuple[float, float] | None) -> Verdict:
    """What an exponent with its interval says.

    Flat: the exponent within the band, and the interval within twice the band. Grows or shrinks:
    the exponent outside of the band, and the interval on one side of zero. Else unclear.

    Args:
        exponent: Of a quantity against the size.
        interval: Of it; None with one seed.

    Returns:
        The verdict.

    Example:
        >>> verdict_of(0.02, (-0.1, 0.1)), verdict_of(0.9, (0.8, 1.1))
        ('flat', 'grows')
        >>> verdict_of(0.2, (-0.3, 0.6))
        'unclear'
    """
    low, high = (exponent, exponent) if interval is None else interval
    if abs(exponent) <= BAND and max(-low, high) <= 2 * BAND:
        return "flat"
    if exponent > BAND and low > 0:
        return "grows"
    if exponent < -BAND and high < 0:
        return "shrinks"
    return "unclear"


def known_exception(layer: LayerCheck, *, kind: AxisKind, follows: bool, in_branch: bool) -> str:
    """Why a quantity that shrinks is as it has to be.

    Over depth: what lies within one of K branches may shrink, down to 1/K. Before the first step
    branches with the multiplier 1/K add up incoherently, and the stream tends to what it began as.

    Over width, where the layer's own settings follow muP:
    Output and attention logits shrink as width^(-1/2) before the first step. The output's change
    holds W_0 (h_t - h_0), which a random readout W_0 of size 1/width lets shrink so as well; what
    the step of W adds does not shrink, and takes over.

    Args:
        layer: The layer, with both trends.
        kind: Kind of the axis.
        follows: Whether its own settings follow the rule of the axis.
        in_branch: Whether it is a layer or a product within a residual branch.

    Returns:
        The reason; "" where it is no exception.

    Source: [TP5] Appendix D.1, and the documentation of its package.
    """
    trend, quantity = layer.trend, layer.quantity
    lowest = (_READOUT if kind == "width" else _BRANCH) - 2 * BAND
    if trend.verdict not in ("shrinks", "unclear") or not lowest <= trend.exponent <= BAND:
        return ""
    is_sum = layer.name.startswith(ADDITION)
    if kind == "depth" and in_branch and not is_sum:
        return "one of K branches, which add up"
    if not follows:
        return ""
    if kind == "depth":
        is_stream = is_sum and quantity == INIT
        return (
            "K branches of size 1/K add up to K^(-1/2) before the first step" if is_stream else ""
        )
    if layer.role == "output" and lowest <= layer.init.exponent < -BAND:
        return f"muP's random readout: its {quantity} shrinks at first, up to width^(-1/2)"
    if layer.name.startswith(LOGITS) and quantity == INIT:
        return "muP's attention logits shrink before the first step, up to width^(-1/2)"
    return ""
