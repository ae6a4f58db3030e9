"""How rates are looked at: powers of two, until the lowest loss is enclosed on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite


@dataclass(frozen=True)
class Window:
    """What encloses an optimum.

    Attributes:
        below: Rates below the lowest loss that are run at least.
        above: Rates above it.
        least: Smallest power of two; the window ends there.
        most: Largest.
    """

    below: int = 2
    above: int = 1
    least: int = -22
    most: int = 4


def next_powers(
    start: int, losses: Mapping[int, Sequence[float]], window: Window = Window()
) -> tuple[int, ...]:
    """Powers of two to run next, all seeds of each; a pure function of what was run.

    First the window around the start, then what the window around the lowest mean loss lacks. A
    rate at which any seed diverged has the loss +inf.

    Args:
        start: Power of two that is expected to be best.
        losses: Losses over the seeds of the rates that were run.
        window: What encloses an optimum.

    Returns:
        Powers that were not run; () when the optimum is enclosed.

    Example:
        >>> next_powers(-3, {})
        (-5, -4, -3, -2)
        >>> next_powers(-3, {-5: [3.0], -4: [2.0], -3: [1.0], -2: [0.5]})
        (-1,)
        >>> next_powers(-3, {-5: [3.0], -4: [2.0], -3: [1.0], -2: [0.5], -1: [9.0]})
        ()
    """
    known: dict[int, float] = {}
    while wanted := _wanted(start, known, window):  # from the beginning: as if never stopped
        missing = tuple(power for power in wanted if power not in losses)
        if missing:
            return missing
        known |= {power: _mean(losses[power]) for power in wanted}
    return ()


def _wanted(start: int, known: Mapping[int, float], window: Window) -> tuple[int, ...]:
    """What the window around the lowest mean loss lacks."""
    finite = {power: mean for power, mean in known.items() if isfinite(mean)}
    if finite:
        centre = min(finite, key=lambda power: (finite[power], power))
    elif known:
        centre = min(known) - window.above  # all diverged: further down
    else:
        centre = start
    powers = range(centre - window.below, centre + window.above + 1)
    return tuple(k for k in powers if window.least <= k <= window.most and k not in known)


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses) if all(map(isfinite, losses)) else inf
