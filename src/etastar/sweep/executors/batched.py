"""Many learning rates and seeds of one size in one vectorised run, where that is faster."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from etastar.errors import TrialError
from etastar.sweep.executors.base import Executor
from etastar.sweep.executors.stacked_optimizers import UnstackableError
from etastar.sweep.executors.stacked_run import StackedRun
from etastar.sweep.running import run_point, trial_record
from etastar.sweep.space import format_size
from etastar.sweep.trial import trial_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Experiment, Point, Size

__all__ = ["Batched"]

LEAST_GAIN = 1.05  # empirical: below it the timing of a few steps cannot tell a gain from noise
LEAST_STEPS_PER_PROBE_STEP = 30  # so that a probe that finds no gain costs about a twentieth


class Batched(Executor):
    """Trains runs of one size as one, by PyTorch's `vmap`, and sequentially where that is no gain.

    The results are those of the sequential runs up to rounding: the same initial values and
    batches per seed, the same update by SGD, Adam or AdamW, the same step of divergence. What
    cannot be vectorised so is run one after another: other optimizers, recurrent networks,
    dropout and whatever draws random numbers in the forward pass, `.item()` in the model. The first
    steps of a size are timed against a plain loop, and the faster way is taken. `note` says why
    runs were sequential.

    Args:
        max_batch: Most runs to be trained together; it bounds memory.
        probe_steps: Steps that are timed; 0 to vectorise wherever it is possible.
        device: Where to train.

    Raises:
        TrialError: A number is out of range.

    Example:
        >>> Batched(max_batch=16).note
        ''
    """

    name = "batched"

    def __init__(
        self,
        *,
        max_batch: int = 32,
        probe_steps: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        if max_batch < 1 or probe_steps < 0:
            raise TrialError(
                f"max_batch={max_batch}, probe_steps={probe_steps}",
                "1 or more runs in a batch, 0 or more steps to be timed",
                "change the number that is out of range",
            )
        self.note = ""
        self._max_batch = max_batch
        self.handful = max_batch
        self._probe_steps = probe_steps
        self._device = device
        self._experiment: Experiment | None = None
        self._findings: dict[tuple[Size, int], str] = {}

    def run(
        self,
        experiment: Experiment,
        size: Size,
        points: Sequence[Point],
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[TrialRecord]:
        """Run every point once, at most `max_batch` together; see `Executor.run`."""
        if experiment is not self._experiment:
            self._experiment, self._findings = experiment, {}
        for start in range(0, len(points), self._max_batch):
            chunk = points[start : start + self._max_batch]
            progress = _Progress(on_step)
            try:
                records = self._together(experiment, size, chunk, progress)
            except Exception as error:
                # also an error of the experiment's own: run alone, the point in question shows it
                self._findings[size, len(chunk)] = reason = _reason(error)
                self.note = f"{format_size(size)}: sequential, since {reason}"
                progress.restart()
                for point in chunk:
                    yield run_point(experiment, size, point, progress.add, device=self._device)
            else:
                yield from records

    def _together(
        self, experiment: Experiment, size: Size, points: Sequence[Point], progress: _Progress
    ) -> list[TrialRecord]:
        """Records of all points; raises where they have to be, or had better be, run alone."""
        if known := self._findings.get((size, len(points))):
            raise UnstackableError(known)
        num_steps = experiment.budget.num_steps
        if len(points) == 1:
            raise UnstackableError("there is one run")
        if num_steps < LEAST_STEPS_PER_PROBE_STEP * self._probe_steps:
            raise UnstackableError(f"{num_steps} steps are too few to find out what is faster")
        with _random_numbers_kept(torch.device(self._device)), warnings.catch_warnings():
            # vmap's, about operations that it loops over: the probe finds out what that costs
            warnings.filterwarnings("ignore", message="There is a performance drop")
            run = StackedRun(experiment, size, points, device=self._device)
            if self._probe_steps and (size, len(points)) not in self._findings:
                _require_gain(run, self._probe_steps, progress)
                self._findings[size, len(points)] = ""
            while not run.is_done:
                run.step()
                progress.add(len(run.active))
            return _records(run, experiment, size, self._device)


@dataclass
class _Progress:
    """Reports steps; after a restart only those beyond what was reported before."""

    on_step: Callable[[int], None] | None
    done: int = 0
    reported: int = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.on_step is not None and self.done > self.reported:
            self.on_step(self.done - self.reported)
        self.reported = max(self.reported, self.done)

    def restart(self) -> None:
        self.done = 0


def _require_gain(run: StackedRun, num_steps: int, progress: _Progress) -> None:
    """Time steps of the run against steps of one of its lanes alone; the first ones warm up."""
    alone = run.copy_of_one()
    together_seconds, alone_seconds = [], []
    for _ in range(num_steps + 1):
        if run.is_done:
            return
        together_seconds.append(_seconds(run.step) / max(1, len(run.active)))
        progress.add(len(run.active))
        alone_seconds.append(_seconds(alone))
    gain = min(alone_seconds[1:]) / min(together_seconds[1:])
    if gain < LEAST_GAIN:
        raise UnstackableError(f"one vectorised run has {gain:.2f} times the speed of a loop here")


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _records(
    run: StackedRun, experiment: Experiment, size: Size, device: torch.device | str
) -> list[TrialRecord]:
    budget = experiment.budget
    evaluations = run.evaluations() if budget.objective == "validation" else {}
    return [
        trial_record(
            experiment,
            size,
            lane.point,
            trial_result(
                lane.losses,
                lane.diverged,
                num_steps=budget.num_steps,
                final_fraction=budget.final_fraction,
                evaluation=evaluations.get(lane.point),
            ),
            device=device,
        )
        for lane in run.lanes
    ]


def _reason(error: Exception) -> str:
    if isinstance(error, UnstackableError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _random_numbers_kept(device: torch.device) -> AbstractContextManager[None]:
    """The global random numbers, of the device too, are afterwards as they were."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    count = torch.get_device_module(device).device_count()
    return torch.random.fork_rng(devices=range(count), device_type=device.type)
