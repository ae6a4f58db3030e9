"""How many seeds: those that are named, or as many as an interval needs; and that interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from etastar.errors import MeasureError
from etastar.fit.bootstrap import student_quantile
from etastar.formatting import number
from etastar.typed import as_seeds, set_numbers

_CONFIDENCE: Final = 0.95
_CONFIDENCE_AFTER_LOOKS: Final = 0.975
"""Asked of an interval at which adding seeds may stop. Seeds whose spread happens to be small stop
early: of normal draws the interval would hold the truth in 0.90 to 0.95 of the cases with 0.95, it
does in 0.95 to 0.98 with this (simulated; measured: benchmarks/results/criterion_seeds.md)."""

_FIRST_STAGE: Final = 3


@dataclass(frozen=True)
class UntilPrecise:
    """Seeds are added, 3, 6, 12, 24 ..., until the interval is narrow enough.

    Attributes:
        precision: Half the width of the 95% interval that is asked for: of the natural logarithm of
            eta*, so that 0.15 is about 15%; in a scan of the exponent.
        at_most: Number of seeds at which it ends all the same, which the report says then.
        first: The first seed; the others follow it.

    Raises:
        MeasureError: A number is out of range.

    Example:
        >>> [len(stage) for stage in UntilPrecise(at_most=20).stages()]
        [3, 3, 6, 8]
    """

    precision: float = 0.15
    at_most: int = 32
    first: int = 0

    def __post_init__(self) -> None:
        set_numbers(self, "precision", error=MeasureError, above=0)
        set_numbers(self, "at_most", error=MeasureError, least=_FIRST_STAGE, whole=True)
        set_numbers(self, "first", error=MeasureError, least=0, whole=True)

    def stages(self) -> Iterator[range]:
        """The seeds that each stage adds: three, then as many as there are."""
        start, end = 0, _FIRST_STAGE
        while start < end:
            yield range(self.first + start, self.first + end)
            start, end = end, min(2 * end, self.at_most)


SeedChoice: TypeAlias = "int | Sequence[int] | UntilPrecise | None"
"""A number n for the seeds 0 to n - 1, the seeds, or as many as it takes; None for the default."""


@dataclass(frozen=True)
class SeedsUsed:
    """The seeds that were measured.

    Attributes:
        numbers: The seeds.
        confidence: To ask of the intervals, so that they hold the truth in 95% of the cases.
        shortfall: That the interval is wider than was asked, and why; "" where it is not.
    """

    numbers: tuple[int, ...]
    confidence: float = _CONFIDENCE
    shortfall: str = ""


def use_seeds(
    seeds: SeedChoice, measure: Callable[[int], object], width: Callable[[float], float]
) -> SeedsUsed:
    """Measure seed after seed, all that are named or as many as it takes.

    `measure` keeps what it found; `width` is half the width of the interval of all that was kept,
    at some confidence.

    Example:
        >>> found = []
        >>> use_seeds(UntilPrecise(0.2), found.append, lambda _: 1 / len(found)).numbers
        (0, 1, 2, 3, 4, 5)
    """
    seeds = UntilPrecise() if seeds is None else seeds
    if not isinstance(seeds, UntilPrecise):
        numbers = as_seeds(seeds, error=MeasureError)
        for seed in numbers:
            measure(seed)
        return SeedsUsed(numbers)
    used: tuple[int, ...] = ()
    reached = math.inf
    for stage in seeds.stages():
        for seed in stage:
            measure(seed)
        used += tuple(stage)
        reached = width(_CONFIDENCE_AFTER_LOOKS)
        if reached <= seeds.precision:
            return SeedsUsed(used, _CONFIDENCE_AFTER_LOOKS)
    shortfall = (
        f"asked for +-{number(seeds.precision)}, reached +-{number(reached)} with "
        f"{len(used)} seeds, the most allowed"
    )
    return SeedsUsed(used, _CONFIDENCE_AFTER_LOOKS, shortfall)


def half_width(logs: ArrayLike, confidence: float = _CONFIDENCE) -> float:
    """Half the width of Student's t interval of a mean over seeds, t s / n^(1/2).

    Infinite with one seed; 0 where not all are finite, as more seeds would not help.

    Example:
        >>> round(half_width([1.0, 2.0, 3.0]), 2)  # 4.303 / 3^(1/2)
        2.48
    """
    values = np.asarray(logs, dtype=np.float64)
    if not np.isfinite(values).all():
        return 0.0
    if len(values) == 1:
        return math.inf
    if len(values) == _FIRST_STAGE:  # exact with two degrees of freedom, where the series is 3% off
        quantile = confidence * math.sqrt(2 / (1 - confidence**2))
    else:
        quantile = student_quantile((1 + confidence) / 2, len(values) - 1)
    return quantile * float(values.std(ddof=1)) / math.sqrt(len(values))


def log_interval(squares: ArrayLike, confidence: float = _CONFIDENCE) -> tuple[float, float] | None:
    """Interval of the geometric mean over seeds, by Student's t on the logarithms; None with one.

    Mean-square updates are products over the layers of a network: their logarithms vary as normal
    numbers do, they themselves have a tail that a mean over few seeds misses.

    Example:
        >>> low, high = log_interval([1.0, 4.0])  # 2 apart by 12.7 half differences
        >>> round(low * high, 6)
        4.0
    """
    values = np.asarray(squares, dtype=np.float64)
    if len(values) == 1:
        return None
    if not ((values > 0) & np.isfinite(values)).all():
        return float(values.min()), float(values.max())
    middle, width = float(np.log(values).mean()), half_width(np.log(values), confidence)
    return math.exp(middle - width), math.exp(middle + width)
