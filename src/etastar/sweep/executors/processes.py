"""Runs side by side, in processes of this machine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from etastar.sweep.executors.base import Executor
from etastar.sweep.executors.workers import WorkerPool
from etastar.sweep.running import run_point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Experiment, Point, Size

__all__ = ["Processes"]


class Processes(Executor):
    """Runs points on worker processes, each with a fixed number of threads.

    Processes start at the first run and stay for the next. The callables of the experiment are
    sent to them, so they must be functions of a module, or `functools.partial` of them; and the
    main module must not start the sweep when it is imported (`if __name__ == "__main__":`).

    Args:
        workers: Number of processes.
        threads: PyTorch's threads in each.
        retries: How often a point is run again whose process died.
        device: Where each of them trains.

    Raises:
        TrialError: A number is out of range.

    Example:
        >>> Processes(workers=4).name
        'processes'
    """

    name = "processes"

    def __init__(
        self,
        workers: int = 2,
        *,
        threads: int = 1,
        retries: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        self._pool = WorkerPool(workers, threads=threads, retries=retries)
        self._device = str(device)
        self.handful = 4 * workers  # enough that no worker waits long for the last of them

    def run(
        self,
        experiment: Experiment,
        size: Size,
        points: Sequence[Point],
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[TrialRecord]:
        """Run every point once, side by side; see `Executor.run`."""
        function = partial(_run, experiment, self._device)
        tasks = [(size, point) for point in points]
        for _, record in self._pool.outcomes(function, tasks, on_step=on_step):
            yield record

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the processes."""
        self._pool.close()


def _run(
    experiment: Experiment, device: str, task: tuple[Size, Point], check: Callable[[], None]
) -> TrialRecord:
    """One point, in a worker; `check` counts its steps."""
    size, point = task
    return run_point(experiment, size, point, lambda _: check(), device=device)
