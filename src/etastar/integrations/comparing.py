"""Whether optimizers hold the settings that a plan gave, parameter by parameter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etastar.errors import PlanError
from etastar.formatting import first_few
from etastar.naming import canonical_parameters

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def compare_groups(
    optimizers: Iterable[Optimizer], groups: Sequence[Mapping[str, Any]], model: nn.Module
) -> None:
    """Refuse optimizers that differ from the groups that a plan made.

    Args:
        optimizers: Those of a trainer, at any step of a schedule.
        groups: From `plan.param_groups`, made of the same model.
        model: Whose names are for the message.

    Raises:
        PlanError: A parameter is in no group or in two, or its rate before the schedule, weight
            decay, epsilon or betas are others; the first six are named.
    """
    names = {id(parameter): name for name, parameter in canonical_parameters(model).items()}
    found: dict[int, Mapping[str, Any]] = {}
    problems = [
        f"{names.get(id(parameter), 'a parameter')!r} is in two groups"
        for group in (group for optimizer in optimizers for group in optimizer.param_groups)
        for parameter in group["params"]
        if found.setdefault(id(parameter), group) is not group
    ]
    for planned in groups:
        for parameter in planned["params"]:
            own = found.get(id(parameter))
            problems += [f"{names[id(parameter)]!r} {what}" for what in _differences(own, planned)]
    if problems:
        raise PlanError(
            f"an optimizer that differs from the plan: {first_few(problems, 6)}",
            "the groups of plan.param_groups(model), scheduled as one",
            "build the optimizer of them; a checkpoint of a run under another plan brings that "
            "plan's groups: resume it with that plan",
        )


def _differences(own: Mapping[str, Any] | None, group: Mapping[str, Any]) -> Iterator[str]:
    if own is None:
        yield "is in no group"
        return
    # OneCycleLR writes an initial_lr of its own; ReduceLROnPlateau writes none
    rate = own.get("max_lr", own.get("initial_lr"))
    betas = () if "max_momentum" in own else ("betas",)  # OneCycleLR's too
    for key in ("lr_multiplier" if rate is None else "lr", "weight_decay", "eps", *betas):
        value = rate if key == "lr" else own.get(key)
        if key in group and not _same(value, group[key]):
            yield f"has {key} {value}, in the plan {group[key]}"


def _same(one: Any, other: Any) -> bool:
    return tuple(one) == tuple(other) if isinstance(other, (tuple, list)) else bool(one == other)
