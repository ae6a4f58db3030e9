"""One finished run of a sweep, as it is stored and tabulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etastar.sweep.space import Point, Size

__all__ = ["TrialRecord"]


@dataclass(frozen=True)
class TrialRecord:
    """What one run came to, and where it ran.

    Attributes:
        size: Size of the network.
        point: Learning rate and seed.
        loss: By the budget's objective; +inf for a diverged or stopped run.
        losses: Training loss of every step done.
        diverged: Whether the run stopped because its loss was no longer reasonable.
        steps: Optimizer steps taken; what the run cost.
        initial_loss: Loss of the first batch, before anything was learned.
        device: Device it ran on.
        versions: Package and version, "torch" among them.
        stopped: Whether it was ended before its time, since its mean loss was certain to exceed
            its point's ceiling.
    """

    size: Size
    point: Point
    loss: float
    losses: tuple[float, ...]
    diverged: bool
    steps: int
    initial_loss: float
    device: str = "cpu"
    versions: tuple[tuple[str, str], ...] = ()
    stopped: bool = False
