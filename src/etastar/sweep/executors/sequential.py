"""One run after another, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etastar.sweep.executors.base import Executor
from etastar.sweep.running import run_point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Experiment, Point, Size

__all__ = ["Sequential"]


class Sequential(Executor):
    """Runs the points in the order given; what the other executors are compared with.

    Args:
        device: Where to train.

    Example:
        >>> Sequential(device="cpu").name
        'sequential'
    """

    name = "sequential"
    handful = 1

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self._device = device

    def run(
        self,
        experiment: Experiment,
        size: Size,
        points: Sequence[Point],
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[TrialRecord]:
        """Run every point once, in order; see `Executor.run`."""
        for point in points:
            yield run_point(experiment, size, point, on_step, device=self._device)
