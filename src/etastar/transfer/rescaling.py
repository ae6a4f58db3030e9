"""The factors of a plan on a model's initial weights: applied once, and checked before training."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from etastar.applied import Applied, digest_of, recall, remember
from etastar.errors import PlanError
from etastar.laws import Width

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import nn

    from etastar.transfer.plan_record import ParamPlan

__all__ = ["require_rescaled", "require_unscaled", "rescale_located_"]


def _name(entries: Sequence[ParamPlan]) -> str:
    """Equal for plans that multiply the initialization by the same factors."""
    factors = sorted((entry.name, f"{entry.init:.12g}") for entry in entries if entry.init != 1)
    return hashlib.sha256(repr(factors).encode()).hexdigest()


def rescale_located_(
    model: nn.Module,
    entries: Sequence[ParamPlan],
    parameters: Mapping[str, nn.Parameter],
    *,
    without: Collection[str] = (),
) -> None:
    """Multiply parameters by their factors, and remember that it was done.

    Args:
        model: The model, changed in place.
        entries: Entries of a plan.
        parameters: Name in the plan to the model's parameter.
        without: Names of parameters that hold their factors already.
    """
    known, before = recall(model) or Applied(), digest_of(model)
    with torch.no_grad():
        for entry in entries:
            if entry.init != 1 and entry.name not in without:
                parameters[entry.name].mul_(entry.init)
    if any(entry.init != 1 for entry in entries):
        done = Applied(known.residual, known.readout, rescaled=_name(entries))
        remember(model, done, before=before)


def require_unscaled(
    model: nn.Module, entries: Sequence[ParamPlan], parameters: Mapping[str, nn.Parameter]
) -> None:
    """Refuse weights that already hold what the factors bring.

    Args:
        model: The model.
        entries: Entries of a plan.
        parameters: Name in the plan to the model's parameter.

    Raises:
        PlanError: They were rescaled before, or were initialized with a factor for depth or width
            that the plan brings too, or hold no memory.
    """
    if not any(entry.init != 1 for entry in entries):
        return
    if empty := next((name for name, p in parameters.items() if p.is_meta), None):
        raise PlanError(
            f"parameter {empty!r} on the meta device",
            "parameters that hold memory",
            "call model.to_empty(device=...) and initialize the model first",
        )
    known = recall(model) or Applied()
    if known.rescaled is not None:
        raise PlanError(
            "a model whose weights were rescaled by a plan before",
            "freshly initialized weights: the factors count once",
            "leave the second call out; after drawing the weights anew by other means than "
            "initialize_, say so with redrawn=True",
        )
    if known.residual in ("all", "last") and _over_depth(entries):
        raise PlanError(
            f"a model that initialize_ gave 1/K on its branches (residual={known.residual!r}), for "
            "a law that scales the branches itself",
            "one of them: both together count depth twice",
            "call plan.initialize_(model) in place of both, or initialize_(..., residual='none')",
        )
    if known.readout == "mup" and _over_width(entries):
        raise PlanError(
            "a model that initialize_ gave the readout of muP (readout='mup'), for the width rule",
            "one of them: both together count width twice",
            "call plan.initialize_(model) in place of both, or leave readout='mup' out",
        )


def _over_depth(entries: Sequence[ParamPlan]) -> bool:
    return any(f.init != 1 for e in entries for name, f in e.factors if name != Width.name)


def _over_width(entries: Sequence[ParamPlan]) -> bool:
    return any(f.init != 1 for e in entries for name, f in e.factors if name == Width.name)


def require_rescaled(
    model: nn.Module, entries: Sequence[ParamPlan], parameters: Mapping[str, nn.Parameter]
) -> None:
    """Refuse weights that lack the factors which the plan's rates belong to.

    Args:
        model: The model.
        entries: Entries of a plan.
        parameters: Name in the plan to the model's parameter.

    Raises:
        PlanError: It is not known here that they were rescaled by these factors.
    """
    if not any(entry.init != 1 for entry in entries):
        return
    known = recall(model)
    if known is not None and known.rescaled == _name(entries):
        return
    changed = [e for e in entries if e.init != 1]
    if all(_is_zero(parameters[entry.name]) for entry in changed):
        return
    other = known is not None and known.rescaled is not None
    how = "rescaled by other factors" if other else "never rescaled"
    raise PlanError(
        f"a model that was {how}, for a plan that multiplies the initialization of "
        f"{len(changed)} parameters ({changed[0].name!r} x {changed[0].init:.3g}, ...)",
        "a model with the plan's initialization: the rates are for that network",
        "call plan.initialize_(model), or plan.rescale_(model) on your own fresh initialization; "
        "if the weights come from a checkpoint of such a model, param_groups(model, "
        "from_checkpoint=True)",
    )


def _is_zero(parameter: torch.Tensor) -> bool:
    return not parameter.is_meta and not bool(parameter.detach().any())
