"""Many learning rates and seeds of one size trained together, where that is faster."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import torch

from etastar.errors import TrialError
from etastar.sweep.executors.base import Executor
from etastar.sweep.executors.gain import (
    MOST_BYTES,
    STEPS_PER_PROBE_STEP,
    Finding,
    Findings,
    reason_for_turns,
)
from etastar.sweep.executors.refusals import NoGainError, UnstackableError
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


class Batched(Executor):
    """Trains runs of one size together, and sequentially where that is no gain.

    The results are those of the sequential runs up to rounding: the same initial values and
    batches per seed, the same update by SGD, Adam or AdamW, the same step of divergence. Updates
    are made together; gradients come from one pass for all runs, by PyTorch's `vmap`, or from one
    for each. Which is faster, the first steps of a size tell: they are timed, against a plain
    loop too, and no more than one in fifty is vectorised for that. What cannot be vectorised is run
    one after another: other optimizers, recurrent networks, dropout and whatever draws random
    numbers in the forward pass, `.item()` in the model; so are, on CPU, networks of many
    parameters, which gain nothing. `note` says why runs were not vectorised. Records of runs that
    are trained together come at their common end.

    Args:
        max_batch: Most runs to be trained together; it bounds memory.
        probe_steps: Most vectorised steps that are timed; 0 to vectorise wherever it is possible.
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
        probe_steps: int = 4,
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
        self._findings = Findings()

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
            self._experiment, self._findings = experiment, Findings()
        for start in range(0, len(points), self._max_batch):
            chunk = points[start : start + self._max_batch]
            progress = _Progress(on_step)
            try:
                self._require_prospect(experiment, size, len(chunk))
                yield from self._together(experiment, size, chunk, progress)
                continue
            except UnstackableError as reason:
                self.note = f"{format_size(size)}: sequential, since {reason}"
            progress.restart()
            for point in chunk:
                yield run_point(experiment, size, point, progress.add, device=self._device)

    def _require_prospect(self, experiment: Experiment, size: Size, count: int) -> None:
        """Refuse what is known to be no gain, before anything is built."""
        num_steps = experiment.budget.num_steps
        if count == 1:
            raise UnstackableError("there is one run")
        if self._probe_steps and num_steps < STEPS_PER_PROBE_STEP:
            raise UnstackableError(f"{num_steps} steps are too few to find out what is faster")
        known = self._findings.find(size, count)
        if known is not None and known.way == "sequential":
            raise UnstackableError(known.reason)

    def _together(
        self, experiment: Experiment, size: Size, points: Sequence[Point], progress: _Progress
    ) -> list[TrialRecord]:
        """Records of all points; raises where they have to be, or had better be, run alone."""
        count = len(points)
        try:
            return self._trained(experiment, size, points, progress)
        except NoGainError as loss:
            self._findings.add(size, range(count + 1), Finding("sequential", str(loss)))
            raise
        except Exception as error:
            # also an error of the experiment's own: run alone, the point in question shows it
            reason = _reason(error)
            self._findings.add(size, range(count, sys.maxsize), Finding("sequential", reason))
            raise UnstackableError(reason) from error

    def _trained(
        self, experiment: Experiment, size: Size, points: Sequence[Point], progress: _Progress
    ) -> list[TrialRecord]:
        device = torch.device(self._device)
        most_bytes = MOST_BYTES if self._probe_steps and device.type == "cpu" else inf
        with _random_numbers_kept(device), warnings.catch_warnings():
            # vmap's, about operations that it loops over: the probe finds out what that costs
            warnings.filterwarnings("ignore", message="There is a performance drop")
            run = StackedRun(experiment, size, points, device=device, most_bytes=most_bytes)
            finding = self._finding(run, size, progress)
            while not run.is_done:
                run.step(vectorised=finding.way == "vectorised")
                progress.add(len(run.active))
            if finding.reason:
                self.note = f"{format_size(size)}: in turn, since {finding.reason}"
            return _records(run, experiment, size, self._device)

    def _finding(self, run: StackedRun, size: Size, progress: _Progress) -> Finding:
        """How to go on with a run; it may have made its first steps then."""
        count = len(run.lanes)
        known = self._findings.find(size, count)
        if known is not None:
            return known
        if not self._probe_steps:
            return Finding("vectorised")
        most_steps = min(self._probe_steps, run.steps_left // STEPS_PER_PROBE_STEP)
        reason = reason_for_turns(run, most_steps, progress.add)
        found = Finding("in turn" if reason else "vectorised", reason)
        self._findings.add(size, range(count + 1) if reason else range(count, count + 1), found)
        return found


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
