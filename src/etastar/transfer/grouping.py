"""Groups of equal hyperparameters, and their parameters in a real model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from etastar.errors import PlanError
from etastar.naming import canonical_parameters
from etastar.transfer.plan_record import GroupPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from etastar.optimizers import OptimizerKind
    from etastar.transfer.plan_record import ParamPlan

__all__ = ["group_parameters", "located_parameters", "optimizer_groups"]


def group_parameters(
    entries: Iterable[ParamPlan], *, defaults: Mapping[str, OptimizerKind]
) -> tuple[GroupPlan, ...]:
    """Merge parameters of equal hyperparameters, in the order of their first appearance.

    Args:
        entries: Entries of a plan.
        defaults: For each optimizer's name the kind whose epsilon and betas need not be named.

    Returns:
        The groups. Rates that differ by rounding alone (12 digits) are equal.
    """
    merged: dict[tuple[object, ...], list[ParamPlan]] = {}
    for entry in entries:
        merged.setdefault(_key(entry), []).append(entry)
    return tuple(
        _group(number, members, defaults[members[0].optimizer])
        for number, members in enumerate(merged.values())
    )


def _key(entry: ParamPlan) -> tuple[object, ...]:
    betas = entry.betas or ()
    numbers = (entry.lr, entry.lr_multiplier, entry.weight_decay, entry.eps, *betas)
    return entry.optimizer, *(None if n is None else f"{n:.12g}" for n in numbers)


def _group(number: int, members: Sequence[ParamPlan], default: OptimizerKind) -> GroupPlan:
    first = members[0]
    roles = dict.fromkeys(entry.role for entry in members)
    return GroupPlan(
        name=f"{number} {', '.join(roles)}",
        optimizer=first.optimizer,
        lr=first.lr,
        lr_multiplier=first.lr_multiplier,
        weight_decay=first.weight_decay,
        eps=None if first.eps == default.eps else first.eps,
        betas=None if first.betas == default.betas else first.betas,
        factors=tuple((law, factors.lr) for law, factors in first.factors),
        init=tuple(sorted({entry.init for entry in members})),
        parameters=tuple(entry.name for entry in members),
    )


def located_parameters(
    entries: Sequence[ParamPlan], *, model: nn.Module
) -> dict[str, nn.Parameter]:
    """The model's parameters by the plan's names, each tensor once.

    Args:
        entries: Entries of a plan.
        model: The target network, also wrapped by DDP or `torch.compile`, or a copy of it.

    Returns:
        Name in the plan to parameter.

    Raises:
        PlanError: Names, shapes or ties differ; they are named.
    """
    if not isinstance(model, nn.Module):
        raise PlanError(
            f"a {type(model).__name__} in place of the model",
            "a torch.nn.Module",
            "pass the network that the plan was made for",
        )
    actual = canonical_parameters(model)
    planned = {alias: entry for entry in entries for alias in (entry.name, *entry.aliases)}
    problems = [f"{name!r} is not in the plan" for name in actual if name not in planned]
    problems += [f"{name!r} is not in the model" for name in planned if name not in actual]
    for name, entry in planned.items():
        problems += _differences(name, entry, actual)
    problems += _unplanned_ties(entries, actual)
    if problems:
        shown = "; ".join(problems[:6])
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise PlanError(
            f"a model that differs from the plan: {shown}{more}",
            "the network that the plan was made for",
            "make a plan for this network with plan_transfer",
        )
    return {entry.name: actual[entry.name] for entry in entries}


def _differences(name: str, entry: ParamPlan, actual: dict[str, nn.Parameter]) -> list[str]:
    if name not in actual or entry.name not in actual:
        return []
    if tuple(actual[name].shape) != entry.shape:
        return [f"{name!r} has shape {tuple(actual[name].shape)}, in the plan {entry.shape}"]
    if actual[name] is not actual[entry.name]:
        return [f"{name!r} is tied to {entry.name!r} in the plan and not in the model"]
    return []


def _unplanned_ties(entries: Sequence[ParamPlan], actual: dict[str, nn.Parameter]) -> list[str]:
    owner: dict[int, str] = {}
    problems = []
    for entry in (entry for entry in entries if entry.name in actual):
        other = owner.setdefault(id(actual[entry.name]), entry.name)
        if other != entry.name:
            problems.append(f"{entry.name!r} is tied to {other!r} in the model and not in the plan")
    return problems


def optimizer_groups(
    groups: Sequence[GroupPlan], *, parameters: dict[str, nn.Parameter], weight_decay: bool
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer.

    Args:
        groups: Groups of a plan.
        parameters: Name in the plan to parameter.
        weight_decay: Whether the optimizer takes a weight decay.

    Returns:
        Groups with `params`, `lr`, and `weight_decay`, `eps` and `betas` where the optimizer needs
        them, and `name`, `lr_multiplier` and `optimizer_kind`, which optimizers carry along. Frozen
        parameters are left out.

    Raises:
        PlanError: Nothing is left to train.
    """
    made = []
    for group in groups:
        trained = [parameters[n] for n in group.parameters if parameters[n].requires_grad]
        settings: dict[str, Any] = {"lr": group.lr}
        if weight_decay:
            settings["weight_decay"] = group.weight_decay
        if group.eps is not None:
            settings["eps"] = group.eps
        if group.betas is not None:
            settings["betas"] = group.betas
        extra = {
            "name": group.name,
            "lr_multiplier": group.lr_multiplier,
            "optimizer_kind": group.optimizer,
        }
        made += [{"params": trained, **settings, **extra}] if trained else []
    if not made:
        raise PlanError(
            "no parameter that requires a gradient",
            "a model with at least one",
            "set requires_grad before making the groups, or ask for the other optimizer's groups",
        )
    return made
