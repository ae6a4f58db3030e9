"""Whether one vectorised run is faster than a loop over runs: a timing of its first steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etastar.sweep.executors.stacked_optimizers import UnstackableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from etastar.sweep.executors.stacked_run import StackedRun
    from etastar.sweep.space import Size

__all__ = ["STEPS_PER_PROBE_STEP", "Findings", "NoGainError", "require_gain"]

STEPS_PER_PROBE_STEP = 50
"""So that a probe that finds no gain costs about a fiftieth of the work."""

LEAST_GAIN = 1.15
"""Empirical: on two shared cores the timing of a few steps is off by up to a tenth."""

CLEAR_GAIN, CLEAR_LOSS = 1.5, 1.0
"""Beyond these no more steps are timed; a loss must be seen twice, as first steps are slow."""

_STEPS_ALONE = 2
"""Steps of one run that are timed beside each vectorised one."""


class NoGainError(UnstackableError):
    """These runs are trained faster one after another."""


@dataclass
class Findings:
    """What is known of training so many runs of a size as one."""

    _by_size: dict[Size, list[tuple[range, str]]] = field(default_factory=dict)

    def add(self, size: Size, counts: range, reason: str) -> None:
        """Keep a finding, before all older ones.

        Args:
            size: Of the network.
            counts: Numbers of runs for which it holds.
            reason: Why they are better trained one after another; "" where they are not.
        """
        self._by_size.setdefault(size, []).insert(0, (counts, reason))

    def find(self, size: Size, count: int) -> str | None:
        """What is known of so many runs.

        Args:
            size: Of the network.
            count: Number of runs.

        Returns:
            The reason of the latest finding that holds; None where none does.

        Example:
            >>> findings = Findings()
            >>> findings.add((("depth", 3),), range(9), "no gain")
            >>> [findings.find((("depth", 3),), count) for count in (8, 16)]
            ['no gain', None]
        """
        for counts, reason in self._by_size.get(size, []):
            if count in counts:
                return reason
        return None


def require_gain(run: StackedRun, most_steps: int, on_steps: Callable[[int], None]) -> None:
    """Time steps of a vectorised run against steps of one of its lanes alone.

    Gain = (time of a step alone) / (time of a vectorised step per lane), the lowest of each, taken
    in turn, so that other work on the machine falls on both.

    Args:
        run: At its beginning; it goes on from where this leaves it.
        most_steps: Vectorised steps, 1 or more; fewer are made where the answer is clear.
        on_steps: Called after each with the number of lanes that made it.

    Raises:
        NoGainError: The gain is less than `LEAST_GAIN`.
    """
    alone = run.copy_of_one()
    per_lane: list[float] = []
    single: list[float] = []
    gain = 0.0
    while not (run.is_done or _is_settled(gain, len(per_lane), most_steps)):
        num_lanes = len(run.active)
        per_lane.append(_seconds(run.step) / num_lanes)
        on_steps(len(run.active))
        if not single:
            alone()  # makes the optimizer's state
        single += [_seconds(alone) for _ in range(_STEPS_ALONE)]
        gain = min(single) / min(per_lane)
    if gain < LEAST_GAIN and not run.is_done:
        raise NoGainError(f"one vectorised run has {gain:.2f} times the speed of a loop here")


def _is_settled(gain: float, num_steps: int, most_steps: int) -> bool:
    if num_steps >= most_steps or gain >= CLEAR_GAIN:
        return True
    return num_steps >= 2 and gain < CLEAR_LOSS


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
