"""Group-safe schedules: does a scheduler keep the ratios between the plan's groups?

A plan gives every group its own learning rate. A schedule must multiply them all by the same
number; one that writes a number of its own into every group undoes the plan without a word.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from etastar.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "ScheduleVerdict",
    "check_schedule",
    "inspect_schedule",
    "per_group_lr",
    "schedule_arguments",
]

_TOLERANCE = 1e-6  # relative, and of the highest factor: a rate that small trains nothing
_FEWEST_STEPS, _MOST_STEPS = 100, 10_000
_HORIZONS = ("total_steps", "T_max", "total_iters", "T_0", "total_size")

_PER_GROUP: Final[Mapping[str, tuple[str, ...]]] = {
    "OneCycleLR": ("max_lr",),
    "CyclicLR": ("base_lr", "max_lr"),
    "ReduceLROnPlateau": ("min_lr",),
}
"""Arguments that are learning rates and may be a list with one entry for each group."""

_ONE_FOR_ALL: Final[Mapping[str, str]] = {
    "CosineAnnealingLR": "eta_min",
    "CosineAnnealingWarmRestarts": "eta_min",
    "SWALR": "swa_lr",
}
"""Arguments that are one learning rate for every group."""


@dataclass(frozen=True)
class ScheduleVerdict:
    """What became of the ratios between groups.

    Attributes:
        safe: Whether every learning rate stayed proportional to its group's multiplier.
        steps: Steps of the schedule that were looked at.
        first_step: First step where the ratios differ; None if they never do.
        lrs: Name and learning rate of every group at that step, else at the last one.
        factors: Learning rate over the group's multiplier, in the same order; equal if safe.
    """

    safe: bool
    steps: int
    first_step: int | None
    lrs: tuple[tuple[str, float], ...]
    factors: tuple[float, ...]


def per_group_lr(optimizer: Optimizer, lr: float) -> list[float]:
    """A learning rate of the base at every group of a plan: lr x the group's multiplier.

    Args:
        optimizer: Built from `plan.param_groups`.
        lr: Learning rate as it would be at the base size.

    Returns:
        One learning rate for each group, in the optimizer's order.

    Raises:
        ScheduleError: The optimizer's groups are not a plan's.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> group = {"params": [weight], "lr": 0.25, "lr_multiplier": 0.25}
        >>> per_group_lr(torch.optim.SGD([group]), 2.0)
        [0.5]
    """
    return [lr * multiplier for multiplier in _multipliers(optimizer)]


def _multipliers(optimizer: Optimizer) -> list[float]:
    if not all("lr_multiplier" in group for group in optimizer.param_groups):
        raise ScheduleError(
            f"a {type(optimizer).__name__} with groups that are not a plan's",
            "an optimizer built from plan.param_groups(model)",
            "build it so, and add further parameters with an lr_multiplier of their own",
        )
    return [float(group["lr_multiplier"]) for group in optimizer.param_groups]


def schedule_arguments(
    scheduler: type[LRScheduler], optimizer: Optimizer, **arguments: Any
) -> dict[str, Any]:
    """Arguments that make a torch scheduler keep the plan's groups apart.

    Every argument that is a learning rate is given as at the base size and comes back with one
    entry for each group.

    Args:
        scheduler: Class of the scheduler.
        optimizer: Built from `plan.param_groups`.
        **arguments: Arguments of the scheduler, the optimizer left out.

    Returns:
        Arguments for `scheduler(optimizer, **arguments)`.

    Raises:
        ScheduleError: The scheduler takes one number for all groups where each needs its own.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> group = {"params": [weight], "lr": 0.25, "lr_multiplier": 0.25}
        >>> optimizer = torch.optim.SGD([group])
        >>> schedule_arguments(
        ...     torch.optim.lr_scheduler.OneCycleLR, optimizer, max_lr=2.0, total_steps=10
        ... )
        {'max_lr': [0.5], 'total_steps': 10}
    """
    name = scheduler.__name__
    multipliers = _multipliers(optimizer)
    shared = _ONE_FOR_ALL.get(name)
    if shared is not None and arguments.get(shared, 0) != 0 and len(set(multipliers)) > 1:
        raise ScheduleError(
            f"{name} with {shared}={arguments[shared]}, one number for every group",
            "a schedule that multiplies every group by the same number",
            f"leave {shared} at 0, or use LambdaLR with a lambda that ends above 0",
        )
    expanded = {key: arguments[key] for key in _PER_GROUP.get(name, ()) if key in arguments}
    return arguments | {key: _expanded(optimizer, value) for key, value in expanded.items()}


def _expanded(optimizer: Optimizer, value: object) -> object:
    return per_group_lr(optimizer, value) if isinstance(value, (int, float)) else value


def check_schedule(
    schedule: LRScheduler | Optimizer, *, num_steps: int | None = None
) -> ScheduleVerdict:
    """Refuse a scheduler that flattens the plan's groups.

    A copy of the scheduler and of the optimizer's groups is stepped; both originals, and the
    model, stay as they are.

    Args:
        schedule: Any torch scheduler on an optimizer built from `plan.param_groups`; or that
            optimizer itself, after a step of a schedule written by hand.
        num_steps: Steps to look at; by default the length that the scheduler states, at least 100
            and at most 10,000, or 1,000 if it states none.

    Returns:
        The verdict, which is safe.

    Raises:
        ScheduleError: The ratios between groups change; the step and the groups are named. Or the
            optimizer's groups are not a plan's.
    """
    verdict = inspect_schedule(schedule, num_steps=num_steps)
    if not verdict.safe:
        lrs = ", ".join(f"{name}: {lr:.6g}" for name, lr in verdict.lrs[:6])
        raise ScheduleError(
            f"{type(schedule).__name__}, which changes the ratios between the plan's groups at "
            f"step {verdict.first_step} ({lrs})",
            "a schedule that multiplies every group's learning rate by the same number",
            "build it with the arguments from schedule_arguments, or per_group_lr for each rate; "
            "a warm-up multiplies group['initial_lr'], it does not write one lr",
        )
    return verdict


def inspect_schedule(
    schedule: LRScheduler | Optimizer, *, num_steps: int | None = None
) -> ScheduleVerdict:
    """The verdict of `check_schedule` without the error.

    Args:
        schedule: As for `check_schedule`.
        num_steps: As for `check_schedule`.

    Returns:
        Whether the ratios hold, and where they first do not.

    Raises:
        ScheduleError: The optimizer's groups are not a plan's.
    """
    if isinstance(schedule, Optimizer):
        return _verdict([schedule])
    copied = _copied(schedule)
    steps = _length(schedule) if num_steps is None else num_steps
    return _verdict(_stepped(copied, steps))


def _verdict(states: Sequence[Optimizer] | Iterator[Optimizer]) -> ScheduleVerdict:
    peak = 0.0
    for step, optimizer in enumerate(states):
        lrs = [float(group["lr"]) for group in optimizer.param_groups]
        pairs = zip(lrs, _multipliers(optimizer), strict=True)
        factors = tuple(lr / multiplier for lr, multiplier in pairs)
        names = [str(group.get("name", n)) for n, group in enumerate(optimizer.param_groups)]
        named = tuple(zip(names, lrs, strict=True))
        peak = max(peak, *factors)
        if max(factors) - min(factors) > _TOLERANCE * peak:
            return ScheduleVerdict(False, step, step, named, factors)
    return ScheduleVerdict(True, step, None, named, factors)


def _copied(scheduler: LRScheduler) -> LRScheduler:
    """A copy of scheduler and groups that shares nothing and holds no tensor of the model."""
    memo: dict[int, Any] = {}
    for part in _parts(scheduler):
        memo[id(part.optimizer.state)] = defaultdict(dict)
        for group in part.optimizer.param_groups:
            for parameter in group["params"]:
                memo[id(parameter)] = torch.nn.Parameter(torch.zeros(1))
    return copy.deepcopy(scheduler, memo)


def _parts(scheduler: LRScheduler) -> list[LRScheduler]:
    inner = [p for s in getattr(scheduler, "_schedulers", ()) for p in _parts(s)]
    return [scheduler, *inner]


def _length(scheduler: LRScheduler) -> int:
    """Steps that a scheduler states as its length, summed over the parts of a sequence."""
    stated = [int(getattr(p, n, 0) or 0) for p in _parts(scheduler) for n in _HORIZONS]
    return min(max(sum(stated) + 1, _FEWEST_STEPS), _MOST_STEPS) if any(stated) else 1000


def _stepped(scheduler: LRScheduler, num_steps: int) -> Iterator[Optimizer]:
    left = getattr(scheduler, "total_steps", math.inf) - getattr(scheduler, "last_epoch", 0) - 1
    yield scheduler.optimizer
    for _ in range(int(min(num_steps, left))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the copy's optimizer is never stepped
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(1.0)
            else:
                scheduler.step()
        yield scheduler.optimizer
