"""The bootstrap over seeds, and what it is given."""

from __future__ import annotations

from math import pi, tan
from statistics import NormalDist
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etastar.errors import FitError
from etastar.typed import plain_number

_CONFIDENCE = 0.95


def float_array(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Numbers as an array; refused under their name where one is none, or rows differ in length.

    Example:
        >>> float_array("losses", [[1, 2], [3, 4]]).shape
        (2, 2)
    """
    try:
        array = np.asarray(_plain(values))
        if array.dtype.kind not in "iufO":
            raise TypeError(name)
        return array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FitError(
            f"{name} {values!r}", "numbers, as many in each row", f"give {name} as numbers"
        ) from error


def _plain(values: Any) -> Any:
    if isinstance(values, (list, tuple)):
        return [*map(_plain, values)]
    found = plain_number(values)
    if found is None and isinstance(values, (bool, str, NoneType)):  # NumPy takes None for NaN
        raise TypeError(values)
    return values if found is None else found


def resampled_seeds(num_seeds: int, *, num_resamples: int = 1000) -> NDArray[np.intp]:
    """Positions of seeds drawn with replacement, (num_resamples, num_seeds).

    The same arguments give the same draws, so that sizes trained with the same seeds are resampled
    together and what their runs share stays shared.

    Example:
        >>> resampled_seeds(3, num_resamples=100).shape
        (100, 3)
    """
    draws = np.random.default_rng(0).integers(num_seeds, size=(num_resamples, num_seeds))
    return draws.astype(np.intp)


def percentile_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The central 95% of the values; both ends are values that occurred.

    No value between two others is made up, so that +inf among them does no harm.

    Example:
        >>> import numpy as np
        >>> percentile_interval(np.arange(1.0, 101.0))
        (3.0, 98.0)
    """
    tail = (1 - _CONFIDENCE) / 2
    ends = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(ends[0]), float(ends[1])


def widened_interval(deviations: NDArray[np.float64], *, freedom: int) -> tuple[float, float]:
    """The central 95% of deviations from an estimate, widened for a variance known from little.

    Each is multiplied by t / z, Student's quantile over the normal one, but none moves inwards;
    with no degree of freedom nothing is widened.

    Example:
        >>> import numpy as np
        >>> low, high = widened_interval(np.linspace(-1, 1, 101), freedom=2)
        >>> round(low, 2), round(high, 2)
        (-2.04, 2.04)
    """
    low, high = percentile_interval(deviations)
    if freedom == 0:
        return low, high
    upper = (1 + _CONFIDENCE) / 2
    widening = student_quantile(upper, freedom) / NormalDist().inv_cdf(upper)
    return min(low, low * widening), max(high, high * widening)


def scatter_at_rates(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation over seeds at each rate, without what a seed adds at all rates.

    The latter is the median over the rates of how far the seed's loss lies above the rate's mean;
    not the mean, lest a rate at the brink of divergence be taken for the seed's level. Corrected
    for the levels taken off; 0 for a single rate.

    Args:
        losses: (num_lrs, num_seeds), finite, two seeds or more.

    Example:
        >>> import numpy as np
        >>> scatter_at_rates(np.array([[4.0, 5.0], [0.0, 1.0], [2.0, 5.0]])).round(6).tolist()
        [0.0, 0.0, 1.732051]
    """
    num_lrs = len(losses)
    if num_lrs == 1:
        return np.zeros(1)
    largest = float(np.abs(losses).max()) or 1.0
    rest = losses / largest
    rest = rest - rest.mean(1, keepdims=True)
    rest = rest - np.median(rest, axis=0)
    scatter: NDArray[np.float64] = largest * rest.std(1, ddof=1) * (num_lrs / (num_lrs - 1)) ** 0.5
    return scatter


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t by Abramowitz and Stegun 26.7.5.

    At 97.5% it is 3% too low with 2 degrees of freedom, less with more of them; exact with 1.

    Example:
        >>> round(student_quantile(0.975, 10), 3)
        2.228
    """
    if freedom == 1:
        return tan(pi * (probability - 0.5))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
