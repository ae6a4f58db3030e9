"""The protocol of executors, and the plainest of them: one run after another, in this process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from math import inf, nan

import torch

from etastar.errors import TrialError, foreign_errors_as
from etastar.sweep.recipe import Point, Recipe, Size
from etastar.sweep.trial import TrialRecord, run_trial

RETRIES = 2
"""How often what a lost worker was at is run again."""


class Executor(AbstractContextManager["Executor"]):
    """Runs points of one size, in this process or elsewhere.

    The contract:

    - `run` yields exactly one record per point, in whatever order the runs end.
    - The same point gives the same record whichever executor ran it, up to rounding (and the
      fields that say where it ran).
    - A run that diverges is a record. A run that raises ends the call: the error of the model, the
      data or the loss comes out as a TrialError with its type and message; records that were
      yielded before stay valid.
    - A run that takes longer than a `run_timeout`, where the executor has one, is ended, and its
      record says so in `failed`; its loss is +inf. The other runs go on.
    - A worker that dies is replaced and its point run again, at most `RETRIES` times; then it is a
      TrialError.
    - It is a context manager: on exit, by Ctrl-C too, no process of it is left.
    - The global random numbers and thread counts of the calling process are as before.
    - `run_timeout` is the time limit of a run in seconds; None where there is none.
    - `max_points` is how many points a sweep hands over at a time: enough to keep the executor
      busy, few enough to leave work for other processes on the same store; None is all.
    """

    max_points: int | None = None
    run_timeout: float | None = None

    @abstractmethod
    def run(self, recipe: Recipe, size: Size, points: Sequence[Point]) -> Iterator[TrialRecord]:
        """Run every point of a size once, all different, and yield a record per point."""

    def require(self, recipe: Recipe) -> None:
        """Refuse, by a TrialError, a recipe that cannot run here, before anything is written."""

    def _over_time(self, size: Size, point: Point, device: str) -> TrialRecord:
        """The record of a run that was ended as it took too long."""
        why = f"stopped, as it took longer than {self.run_timeout:g} s"
        return TrialRecord(size, point, inf, (), False, 0, nan, device, failed=why)

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what the executor holds."""


class Sequential(Executor):
    """Runs the points in the order given; what the other executors are compared with.

    Args:
        device: Where to train.

    Raises:
        TrialError: There is no such device.
    """

    max_points = 1

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self._device = device_name(device)

    def run(self, recipe: Recipe, size: Size, points: Sequence[Point]) -> Iterator[TrialRecord]:
        """Run every point once, in order; see `Executor.run`."""
        for point in points:
            yield run_trial(recipe, size, point, device=self._device)


def device_name(device: torch.device | str) -> str:
    """A device as text, which other processes can be sent; refused if this machine has none."""
    with foreign_errors_as(
        TrialError, f"device {device!r}", "a device of PyTorch", 'give "cpu" or "cuda:0"'
    ):
        found = torch.device(device)
        present = 1
        if found.type not in ("cpu", "meta"):
            present = torch.get_device_module(found.type).device_count()
    if (found.index or 0) >= present:
        here = f"one of the {present} of this machine" if present else "a device of this machine"
        raise TrialError(f"device {device!r}", here, "choose another device")
    return str(found)
