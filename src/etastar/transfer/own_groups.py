"""A plan's settings on a user's own parameter groups, which keep their ratios and keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from etastar.errors import PlanError
from etastar.transfer.plan_on_model import group_parameters
from etastar.typed import plain_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from etastar.optimizers import OptimizerKind
    from etastar.transfer.plan_on_model import PlannedModel
    from etastar.transfer.plan_record import ParamPlan

__all__ = ["groups_within"]


def groups_within(
    groups: Iterable[Mapping[str, Any]],
    planned: PlannedModel,
    entries: Sequence[ParamPlan],
    *,
    rates: Mapping[str, float],
    defaults: Mapping[str, OptimizerKind],
) -> list[dict[str, Any]]:
    """Split every group of a user's own where the plan's settings differ within it.

    lr(parameter) = lr of the plan x lr of the group / tuned lr; weight decay, epsilon and betas are
    the group's where it has them, times the plan's factors.

    Args:
        groups: As a torch optimizer takes them: `params` (tensors, pairs of name and tensor, or
            names), and any keys beside.
        planned: The model beside the plan.
        entries: Those of its parameters that are asked for.
        rates: Learning rate at the base by the name of the optimizer's kind.
        defaults: For each of these names the kind whose epsilon and betas need not be named.

    Returns:
        Groups with what the user's had, in their order; a parameter in none of them is in none.

    Raises:
        PlanError: A group is none, holds what is no parameter of the model, or one twice.
    """
    by_tensor = {id(value): name for name, value in planned.parameters.items()}
    names_of = {alias: entry.name for entry in entries for alias in (entry.name, *entry.aliases)}
    wanted = {entry.name: entry for entry in entries}
    seen: set[str] = set()
    made: list[dict[str, Any]] = []
    for number, own in enumerate(groups):
        if not isinstance(own, Mapping) or "params" not in own:
            raise _refused(f"group {number} given as {type(own).__name__}", "a dict with params")
        members = []
        for name in _names(own["params"], by_tensor, planned.parameters, names_of):
            if name is None or name in seen:
                what = "a tensor or name that the plan lacks" if name is None else f"{name!r} again"
                raise _refused(f"group {number} with {what}", "each parameter of the model once")
            seen.add(name)
            if name in wanted and planned.parameters[name].requires_grad:
                members.append(_with_own(wanted[name], own, rates[wanted[name].optimizer]))
        if members:
            made += _split(members, own, planned, rates, defaults)
    return made


def _names(
    params: Any,
    by_tensor: Mapping[int, str],
    parameters: Mapping[str, object],
    names_of: Mapping[str, str],
) -> Iterator[str | None]:
    single = isinstance(params, (str, torch.Tensor))
    for one in [params] if single else list(params):
        held = one[1] if isinstance(one, tuple) and len(one) == 2 else one
        if isinstance(held, str):
            yield names_of.get(held, held if held in parameters else None)
        else:
            yield by_tensor.get(id(held))


def _with_own(entry: ParamPlan, own: Mapping[str, Any], rate: float) -> ParamPlan:
    """The entry with a group's own settings at the base, times the plan's factors."""
    factors = [one for _, one in entry.factors]
    changed: dict[str, Any] = {}
    if "lr" in own:
        changed["lr"] = entry.lr * _number(own, "lr") / rate
    if "weight_decay" in own:
        by_laws = math.prod(one.weight_decay for one in factors)
        changed["weight_decay"] = _number(own, "weight_decay") * by_laws
    if "eps" in own and entry.eps is not None:
        changed["eps"] = _number(own, "eps") * math.prod(one.eps for one in factors)
    if "betas" in own and entry.betas is not None:
        pairs = zip(own["betas"], *(one.betas for one in factors), strict=True)
        scaled = [(beta, math.prod(by)) for beta, *by in pairs]
        changed["betas"] = tuple(b if by == 1 else 1 - (1 - b) * by for b, by in scaled)
    return replace(entry, **changed)


def _number(own: Mapping[str, Any], key: str) -> float:
    found = plain_number(own[key])
    if found is None:
        raise _refused(f"a group with {key}={own[key]!r}", "a number")
    return found


def _split(
    members: Sequence[ParamPlan],
    own: Mapping[str, Any],
    planned: PlannedModel,
    rates: Mapping[str, float],
    defaults: Mapping[str, OptimizerKind],
) -> Iterator[dict[str, Any]]:
    # what a group names is named again, also where it is the optimizer's default
    named: dict[str, Any] = {key: None for key in ("eps", "betas") if key in own}
    kinds = {name: replace(kind, **named) for name, kind in defaults.items()}
    kept = {key: value for key, value in own.items() if key != "param_names"}
    for group in group_parameters(members, defaults=kinds):
        one = replace(group, lr_multiplier=group.lr / rates[group.optimizer])
        takes_decay = kinds[group.optimizer].weight_decay is not None
        (settings,) = planned.optimizer_groups([one], weight_decay=takes_decay)
        if "name" in own:
            settings["name"] = f"{own['name']}: {settings['name']}"
        yield {**kept, **settings}


def _refused(received: str, expected: str) -> PlanError:
    return PlanError(received, expected, "give groups of this model as its optimizer takes them")
