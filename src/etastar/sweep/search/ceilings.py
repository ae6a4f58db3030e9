"""When a run is hopeless, from the runs before it."""

from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Point

__all__ = ["with_ceilings"]

_GIVEN_UP: Final = 0.5
"""Share of the best run's gain that a hopeless one is certain to miss. Runs that a parabola could
use, a factor of two from the minimum, lie below; empirical, on the project's networks."""


def with_ceilings(points: Sequence[Point], finished: Sequence[TrialRecord]) -> tuple[Point, ...]:
    """Points with the mean loss at which their runs may end, as hopeless.

    ceiling = l + (l_0 - l) / 2, with l the loss of the best finished run of the same seed and l_0
    its first loss: a run beyond it has gained less than half of what another rate has. It counts
    as +inf, like a diverged one, so that no optimum is drawn through a loss that is not known. The
    ceiling is +inf where no run of that seed has gained anything, and for losses that can be
    negative, of which nothing is certain before the end.

    Args:
        points: New points.
        finished: The runs of this size before.

    Returns:
        The points, in their order.

    Example:
        >>> from etastar.sweep.record import TrialRecord
        >>> from etastar.sweep.space import Point
        >>> best = TrialRecord((("depth", 3),), Point(0.1, 0), 1.0, (2.0, 0.0), False, 2, 2.0)
        >>> [point.ceiling for point in with_ceilings([Point(0.2, 0), Point(0.2, 1)], [best])]
        [1.5, inf]
    """
    ceilings = {seed: _ceiling(finished, seed) for seed in {point.seed for point in points}}
    return tuple(replace(point, ceiling=ceilings[point.seed]) for point in points)


def _ceiling(finished: Sequence[TrialRecord], seed: int) -> float:
    whole = [
        (record.loss, record.point, record.initial_loss, min(record.losses, default=-inf))
        for record in finished
        if record.point.seed == seed and isfinite(record.loss)
    ]
    if not whole:
        return inf
    loss, _, initial_loss, lowest = min(whole)
    if lowest < 0 or not isfinite(initial_loss) or initial_loss <= loss:
        return inf
    return loss + _GIVEN_UP * (initial_loss - loss)
