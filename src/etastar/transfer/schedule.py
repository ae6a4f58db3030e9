"""Group-safe schedules: does a scheduler keep the ratios between the plan's groups?

A plan gives every group its own learning rate. A schedule must multiply them all by the same
number; one that writes a number of its own into every group undoes the plan without a word.

Schedulers of timm, and what accelerate puts around one of torch, are known by their attributes.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from etastar.errors import ScheduleError, warnings_ignored
from etastar.formatting import number
from etastar.optimizers import OPTIMIZERS
from etastar.optimizers.reading import kind_of_class, kind_of_group
from etastar.typed import require_number

_TOLERANCE = 1e-4  # of the highest factor so far: a rate that small trains nothing
_HELD = 1e-2  # of a group's own rate: what ReduceLROnPlateau's eps may hold it at
_FEWEST_STEPS, _MOST_STEPS, _UNSTATED = 100, 10_000, 999
_HORIZONS = ("total_steps", "T_max", "total_iters", "T_0", "total_size", "t_initial")

_OF_THEIR_OWN = frozenset("lamb fusedlamb lars larc novograd nvnovograd fusednovograd kron".split())
"""Classes, whoever wrote them, that step neither as SGD nor as Adam does."""

_PER_GROUP: Final[Mapping[str, tuple[str, ...]]] = {
    "OneCycleLR": ("max_lr",),
    "CyclicLR": ("base_lr", "max_lr"),
    "ReduceLROnPlateau": ("min_lr",),
    "GreedyLR": ("min_lr", "max_lr"),
    "SWALR": ("swa_lr",),
}
"""Arguments that are learning rates and may be a list with one entry for each group."""

_ONE_FOR_ALL: Final[Mapping[str, str]] = {
    "eta_min": "leave it out, and use etastar.warmup_cosine, which ends at a tenth of every rate",
    "lr_min": "leave it out, and use etastar.warmup_cosine, which ends at a tenth of every rate",
    "warmup_lr_init": "leave it out: the warm-up starts at 0",
    "min_lr": "give min_lr_rate, the floor as a fraction of every rate",
    "lr_end": "leave it out, or give a cosine with min_lr_rate, a fraction of every rate",
    **dict.fromkeys(
        ("base_lr", "max_lr", "swa_lr", "initial_lr", "final_lr"),
        "use LambdaLR, whose factor multiplies every rate",
    ),
}
"""Learning rates that elsewhere are one number for every group, and what to do in their place."""


def _multipliers(optimizer: Optimizer) -> list[float]:
    groups = optimizer.param_groups if isinstance(optimizer, Optimizer) else [{}]
    if not all("lr_multiplier" in group for group in groups):
        raise ScheduleError(
            f"a {type(optimizer).__name__} in place of an optimizer with a plan's groups",
            "an optimizer built from plan.param_groups(model)",
            "build it so, and add further parameters with an lr_multiplier of their own",
        )
    _refuse_other_kind(optimizer)
    return [float(group["lr_multiplier"]) for group in groups]


def _refuse_other_kind(optimizer: Optimizer) -> None:
    """Refuse groups of another optimizer's plan, as far as this optimizer's kind is known."""
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
    for part in getattr(inner, "optimizers", ()):
        _refuse_other_kind(part)
    found = kind_of_class(type(inner))
    if found is None:
        _refuse_other_steps(inner)
        return
    for group in inner.param_groups:
        planned = group.get("optimizer_kind", found.name)
        wanted = OPTIMIZERS.get(planned)
        usual = found if group.get("use_muon", True) else found.fallback or found
        own = kind_of_group(group, usual)
        theirs = (own.update, own.shape_rule, own.decoupled_weight_decay)
        ours = wanted and (wanted.update, wanted.shape_rule, wanted.decoupled_weight_decay)
        if ours != theirs:
            raise ScheduleError(
                f"a {type(inner).__name__} with groups of a plan for {planned}",
                f"the optimizer {planned!r}: its rates and its weight decay are for no other",
                f"build that optimizer, or make the plan with optimizer={found.name!r}",
            )


def _refuse_other_steps(optimizer: Optimizer) -> None:
    """Refuse a class of no kind that the plan's optimizer could be, by its name."""
    name = type(optimizer).__name__
    planned = {group.get("optimizer_kind", "") for group in optimizer.param_groups}
    if name.lower() in _OF_THEIR_OWN and (known := sorted(planned & OPTIMIZERS.keys())):
        raise ScheduleError(
            f"a {name} with groups of a plan for {known[0]}",
            f"the optimizer {known[0]!r}: {name} sizes its steps by each layer's norms",
            "build that optimizer, or declare this one with etastar.optimizer_like, where its kind "
            "is there, and make the plan for it",
        )


def schedule_arguments(
    scheduler: Callable[..., Any], optimizer: Optimizer, **arguments: Any
) -> dict[str, Any]:
    """Arguments that make a scheduler keep the plan's groups apart.

    Every argument that is a learning rate is given as at the base size and comes back with one
    entry for each group. `ReduceLROnPlateau` gets eps=0, unless it is given: its own eps is one
    size of step for all groups, below which a group's rate is not reduced.

    Args:
        scheduler: Class of the scheduler, of torch, timm or transformers; or a function that makes
            it, as transformers has them.
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
    if not (inspect.isfunction(scheduler) or hasattr(scheduler, "step")) or not callable(scheduler):
        raise ScheduleError(
            f"{getattr(scheduler, '__name__', repr(scheduler))} as scheduler",
            "the class of a learning-rate scheduler",
            "pass the class itself, e.g. torch.optim.lr_scheduler.OneCycleLR",
        )
    name = scheduler.__name__
    several = len(set(_multipliers(optimizer))) > 1
    given = [key for key in _PER_GROUP.get(name, ()) if key in arguments]
    for key, remedy in _ONE_FOR_ALL.items():
        # a floor of transformers' functions is one at the optimizer's default rate, so never right
        if key not in given and arguments.get(key) and (several or inspect.isfunction(scheduler)):
            raise ScheduleError(
                f"{name} with {key}={arguments[key]}, one number for every group",
                "a schedule that multiplies every group by the same number",
                remedy,
            )
    if several and name == "ReduceLROnPlateau":
        arguments.setdefault("eps", 0.0)
    return arguments | {key: _expanded(optimizer, key, arguments[key]) for key in given}


def _expanded(optimizer: Optimizer, name: str, value: Any) -> object:
    """A learning rate at every group: that of the base times the group's multiplier."""
    listed = isinstance(value, (list, tuple))
    rates = [
        require_number(name, one, error=ScheduleError, least=0)
        for one in (value if listed else [value])
    ]
    return rates if listed else [rates[0] * multiplier for multiplier in _multipliers(optimizer)]


def warmup_cosine(
    optimizer: Optimizer, num_steps: int, *, warmup_steps: int = 0, floor: float = 0.1
) -> LambdaLR:
    """The commonest schedule: linear warm-up, then a cosine down to a tenth of every rate.

    factor(t) = (t + 1) / (W + 1) for t < W, then f + (1 - f) (1 + cos(pi (t - W) / (T - W))) / 2.

    Args:
        optimizer: The optimizer; any groups.
        num_steps: T, optimizer steps in all; from there on the factor is f.
        warmup_steps: W.
        floor: f, from 0 to 1.

    Returns:
        The scheduler, to be stepped after each optimizer step.

    Raises:
        ScheduleError: The warm-up is as long as the run, or a number is not valid.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = warmup_cosine(optimizer, 100, warmup_steps=9)
        >>> schedule.get_last_lr()
        [0.1]
    """
    require_number("num_steps", num_steps, error=ScheduleError, least=1, whole=True)
    require_number("warmup_steps", warmup_steps, error=ScheduleError, least=0, whole=True)
    require_number("floor", floor, error=ScheduleError, least=0)
    if warmup_steps >= num_steps or floor > 1:
        raise ScheduleError(
            f"warmup_steps={warmup_steps}, floor={floor:g} in {num_steps} steps",
            "a warm-up shorter than the run, and a floor between 0 and 1",
            "change them",
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        passed = min(1.0, (step - warmup_steps) / (num_steps - warmup_steps))
        return floor + (1 - floor) * (1 + math.cos(math.pi * passed)) / 2

    return LambdaLR(optimizer, factor)


def check_schedule(schedule: LRScheduler | Optimizer | Any, *, num_steps: int | None = None) -> int:
    """Refuse a scheduler that flattens the plan's groups.

    A copy of the scheduler and of the optimizer's groups is stepped; both originals, and the
    model, stay as they are.

    Args:
        schedule: Any scheduler of torch, timm or transformers on an optimizer built from
            `plan.param_groups`, one that accelerate prepared too; or that optimizer itself, after a
            step of a schedule written by hand.
        num_steps: Steps to look at; by default the length that the scheduler states, at least 100,
            or 1,000 if it states none. One that states more than 10,000 is looked at in 10,000,
            every length in it divided alike.

    Returns:
        How many steps were looked at; in all of them every learning rate stayed proportional to its
        group's multiplier. That `ReduceLROnPlateau` does not reduce a rate by less than its eps is
        left out where the rate is by then a hundredth of the group's own; how long it waits, too.

    Raises:
        ScheduleError: The ratios between groups change; the step and the groups are named. Or the
            optimizer's groups are not a plan's, or those of another optimizer's plan; or this is no
            scheduler.
        OptimizerError: The optimizer was made to step otherwise than its kind does.
    """
    states: Iterable[Optimizer]
    by = 1
    if isinstance(schedule, Optimizer):
        multipliers, states = _multipliers(schedule), [schedule]
    else:
        scheduler = _scheduler(schedule)
        multipliers, copied = _multipliers(scheduler.optimizer), _copied(scheduler)
        if num_steps is None:
            stated = _length(scheduler) or _UNSTATED
            steps = min(max(stated + 1, _FEWEST_STEPS), _MOST_STEPS)
            by = _shortened_(copied, -(-stated // _MOST_STEPS))
        else:
            steps = require_number("num_steps", num_steps, error=ScheduleError, least=0, whole=True)
        states = _stepped(copied, steps)
    peak = 0.0
    for step, optimizer in enumerate(states):
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        factors = [lr / own for lr, own in zip(rates, multipliers, strict=True)]
        peak = max(peak, *factors)
        if max(factors) - min(factors) > _TOLERANCE * peak:
            names = [group.get("name", n) for n, group in enumerate(optimizer.param_groups)]
            shown = [f"{name}: {number(lr)}" for name, lr in zip(names, rates, strict=True)]
            raise ScheduleError(
                f"{type(schedule).__name__}, which changes the ratios between the plan's groups at "
                f"step {step * by} ({', '.join(shown[:6])})",
                "a schedule that multiplies every group's learning rate by the same number",
                _remedy(schedule),
            )
    return step


def _remedy(schedule: Any) -> str:
    plateau = _plateau(schedule)
    if plateau is not None and plateau.eps > 0 and not any(plateau.min_lrs):
        return (
            f"give it eps=0 in place of eps={plateau.eps:g}, as schedule_arguments does: it leaves "
            "a group alone that would be reduced by less"
        )
    return (
        "build it with the arguments from schedule_arguments; a warm-up multiplies "
        "group['initial_lr'], it does not write one lr"
    )


def _plateau(schedule: Any) -> ReduceLROnPlateau | None:
    """The scheduler of torch that waits for a plateau, out of accelerate's or timm's."""
    inner = getattr(schedule, "scheduler", schedule)
    inner = getattr(inner, "lr_scheduler", inner)
    return inner if isinstance(inner, ReduceLROnPlateau) else None


def _scheduler(schedule: Any) -> Any:
    """The scheduler itself, out of accelerate's wrapper."""
    inner = getattr(schedule, "scheduler", schedule)
    scheduled = callable(getattr(inner, "step", None)) and not isinstance(inner, type)
    if not scheduled or not isinstance(getattr(inner, "optimizer", None), Optimizer):
        raise ScheduleError(
            f"a {type(schedule).__name__} in place of a scheduler",
            "a learning-rate scheduler of torch or timm, or an optimizer",
            "pass the scheduler, built on an optimizer from plan.param_groups(model)",
        )
    return inner


def _copied(scheduler: Any) -> Any:
    """A copy of scheduler and groups that shares nothing and holds no tensor of the model."""
    optimizer = scheduler.optimizer
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    memo: dict[int, Any] = {id(p): torch.nn.Parameter(torch.zeros(1)) for p in parameters}
    return copy.deepcopy(scheduler, memo | {id(optimizer.state): defaultdict(dict)})


def _length(scheduler: Any) -> int:
    """Steps that a scheduler states as its length, or its parts; 0 where none does."""
    parts = getattr(scheduler, "_schedulers", ())
    own = sum(int(getattr(scheduler, name, 0) or 0) for name in _HORIZONS)
    if before := getattr(scheduler, "_milestones", ()):
        own += max(0, before[-1] - sum(map(_length, parts[:-1])))
    return own + sum(map(_length, parts))


def _shortened_(scheduler: Any, by: int) -> int:
    """Divide the lengths of a copied scheduler that has not begun; gives the divisor."""
    if by == 1 or getattr(scheduler, "last_epoch", 0) > 0:
        return 1
    # T_i: the restart under way; the rates of one cycle differ from its first step on
    for name in {*_HORIZONS, "T_i"} - {"total_steps"}:
        if length := getattr(scheduler, name, 0):
            setattr(scheduler, name, max(1, length // by))
    if before := getattr(scheduler, "_milestones", ()):
        before[:] = [max(1, step // by) for step in before]
    for part in getattr(scheduler, "_schedulers", ()):
        _shortened_(part, by)
    return by


def _stepped(scheduler: Any, num_steps: int) -> Iterator[Optimizer]:
    left = getattr(scheduler, "total_steps", math.inf) - getattr(scheduler, "last_epoch", 0) - 1
    if (plateau := _plateau(scheduler)) is not None:
        lowest = min(float(group["lr"]) for group in plateau.optimizer.param_groups)
        if plateau.eps <= _HELD * (1 - plateau.factor) * lowest:
            plateau.eps = 0.0
        plateau.patience = plateau.cooldown = 0
    first = next(iter(inspect.signature(scheduler.step).parameters.values()), None)
    waits = first is not None and first.default is first.empty and first.kind < first.VAR_POSITIONAL
    yield scheduler.optimizer
    for step in range(int(min(num_steps, left))):
        with warnings_ignored():  # the copy's optimizer is never stepped
            if callable(getattr(scheduler, "step_update", None)):  # timm's, by epochs or updates
                scheduler.step(step + 1, 1.0)
                scheduler.step_update(step + 1, 1.0)
            else:
                scheduler.step(*([1.0] if waits else []))
        yield scheduler.optimizer
