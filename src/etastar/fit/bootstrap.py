"""The bootstrap over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from etastar.errors import FitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["percentile_interval", "require_bootstrap", "resampled_seeds"]


def require_bootstrap(confidence: float, num_resamples: int) -> None:
    """Refuse settings with which no interval can be drawn.

    Args:
        confidence: Probability that an interval is meant to hold.
        num_resamples: Number of bootstrap resamples.

    Raises:
        FitError: The confidence is not between 0 and 1, or there is no resample.

    Example:
        >>> require_bootstrap(0.95, 1000)
    """
    if not 0 < confidence < 1 or num_resamples < 1:
        raise FitError(
            f"confidence={confidence}, num_resamples={num_resamples}",
            "a confidence between 0 and 1, one resample or more",
            "change the setting that is out of range",
        )


def resampled_seeds(num_seeds: int, *, num_resamples: int, seed: int) -> NDArray[np.intp]:
    """Seeds drawn with replacement.

    The same arguments give the same draws, so that sizes trained with the same seeds are resampled
    together and what their runs share stays shared.

    Args:
        num_seeds: Number of training seeds there are.
        num_resamples: Number of resamples.
        seed: Of the draws.

    Returns:
        Positions of seeds, (num_resamples, num_seeds).

    Example:
        >>> resampled_seeds(3, num_resamples=100, seed=0).shape
        (100, 3)
    """
    draws = np.random.default_rng(seed).integers(num_seeds, size=(num_resamples, num_seeds))
    return draws.astype(np.intp)


def percentile_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The central part of the values; both ends are values that occurred.

    No value between two others is made up, so that +inf among them does no harm.

    Args:
        values: (num_resamples,), may hold +inf.
        confidence: Share of the values to cover.

    Returns:
        Lower and upper end.

    Example:
        >>> import numpy as np
        >>> percentile_interval(np.arange(1.0, 101.0), 0.9)
        (5.0, 95.0)
    """
    tail = (1 - confidence) / 2
    ends = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(ends[0]), float(ends[1])
