"""How runs of one size are trained fastest: a timing of their first steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from etastar.sweep.executors.refusals import NoGainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from etastar.sweep.executors.stacked_run import StackedRun
    from etastar.sweep.space import Size

__all__ = [
    "MOST_BYTES",
    "STEPS_PER_PROBE_STEP",
    "Finding",
    "Findings",
    "reason_for_turns",
]

MOST_BYTES = 2**20
"""Empirical: on CPU, models of more parameters than that were trained at 0.3 to 1.1 times the speed
of a loop, which has one of them at a time in the processor's cache; of smaller ones up to 2.0."""

STEPS_PER_PROBE_STEP = 50
"""So that vectorised steps that are no gain are a fiftieth of the work."""

TIMING_ERROR = 1.1
"""Empirical: on two shared cores the timing of a few steps is off by up to a tenth."""

CLEAR_GAIN, CLEAR_LOSS = 1.5, 1.0
"""Beyond these no more steps are timed; a loss must be seen twice, as first steps are slow."""


@dataclass(frozen=True)
class Finding:
    """How runs are best trained.

    Attributes:
        way: "vectorised", "in turn" (step by step, their gradients one after another, their
            updates together) or "sequential".
        reason: Why it is not "vectorised".
    """

    way: Literal["vectorised", "in turn", "sequential"]
    reason: str = ""


@dataclass
class Findings:
    """What is known of training so many runs of a size together."""

    _by_size: dict[Size, list[tuple[range, Finding]]] = field(default_factory=dict)

    def add(self, size: Size, counts: range, finding: Finding) -> None:
        """Keep a finding, before all older ones.

        Args:
            size: Of the network.
            counts: Numbers of runs for which it holds.
            finding: How they are best trained.
        """
        self._by_size.setdefault(size, []).insert(0, (counts, finding))

    def find(self, size: Size, count: int) -> Finding | None:
        """What is known of so many runs.

        Args:
            size: Of the network.
            count: Number of runs.

        Returns:
            The latest finding that holds; None where none does.

        Example:
            >>> findings = Findings()
            >>> findings.add((("depth", 3),), range(9), Finding("sequential", "no gain"))
            >>> [findings.find((("depth", 3),), count) for count in (8, 16)]
            [Finding(way='sequential', reason='no gain'), None]
        """
        for counts, finding in self._by_size.get(size, []):
            if count in counts:
                return finding
        return None


def reason_for_turns(run: StackedRun, most_steps: int, on_steps: Callable[[int], None]) -> str:
    """Time vectorised steps of a run against steps of its lanes in turn, and of one lane alone.

    Gain = (time of the other step per lane) / (time of a vectorised step per lane), the lowest of
    each, taken in turn, so that other work on the machine falls on all. The steps are the run's
    own, but for those alone: what they cost is what the slower way is slower.

    Args:
        run: At its beginning; it goes on from where this leaves it.
        most_steps: Vectorised steps, 1 or more; fewer are made where the answer is clear.
        on_steps: Called after each step with the number of lanes that made it.

    Returns:
        Why to take gradients in turn; "" where vectorised steps are faster.

    Raises:
        NoGainError: To begin again with a loop over runs costs less than to go on.
    """
    at_once: list[float] = []
    in_turn: list[float] = []
    alone: list[float] = []
    step_alone = run.copy_of_one()
    start = run.steps_left
    while not (run.is_done or _is_settled(at_once, in_turn, alone, most_steps)):
        for times, vectorised in ((at_once, True), (in_turn, False)):
            if not run.is_done:
                num_lanes = len(run.active)
                times.append(_seconds(partial(run.step, vectorised=vectorised)) / num_lanes)
                on_steps(len(run.active))
        if not alone:
            step_alone()  # makes the optimizer's state
        alone.append(_seconds(step_alone))
    if run.is_done:
        return ""
    gain = min(alone) / min(at_once + in_turn)
    if run.steps_left * (1 / (gain * TIMING_ERROR) - 1) > start - run.steps_left:
        raise NoGainError(f"training them together has {gain:.2f} times the speed of a loop here")
    gain = min(in_turn) / min(at_once)
    if gain >= 1:
        return ""
    return f"one vectorised pass has {gain:.2f} times the speed of one for each"


def _is_settled(
    at_once: list[float], in_turn: list[float], alone: list[float], most_steps: int
) -> bool:
    if not at_once:
        return False
    gain = min(in_turn + alone) / min(at_once)
    if len(at_once) >= most_steps or gain >= CLEAR_GAIN:
        return True
    return len(at_once) >= 2 and gain < CLEAR_LOSS


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
