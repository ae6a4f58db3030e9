"""timm's optimizer factory with the groups of a plan, and its layer decay beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from etastar.errors import MissingExtraError, PlanError
from etastar.transfer.plan import TransferPlan
from etastar.typed import require_number

if TYPE_CHECKING:
    from torch import nn


def plan_groups(
    plan: TransferPlan, *, layer_decay: float | None = None, from_checkpoint: bool = False
) -> Callable[[nn.Module], list[dict[str, Any]]]:
    """What `timm.optim.create_optimizer_v2` takes as `param_group_fn`.

    With a function of groups timm reads neither its `layer_decay` nor its `weight_decay`: give the
    first here, the second is the plan's. A layer's rate is that of the plan times the layer's
    scale, under torch's schedulers as under timm's. The function sees the model alone: whether
    `opt` is the plan's optimizer (no LAMB for a plan of AdamW), `check_schedule` asks.

    Args:
        plan: Of the model; not for Muon, of which timm has a form of its own.
        layer_decay: What each layer's rate is multiplied by, counted from the head.
        from_checkpoint: See `TransferPlan.param_groups`.

    Returns:
        A function from a model to parameter groups.

    Raises:
        PlanError: The plan is for Muon, or `layer_decay` is not positive.
        MissingExtraError: timm is not installed, when layers are to be found.

    Example:
        >>> import torch
        >>> from etastar.transfer import Tuned, plan_transfer
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
        >>> size = (net, torch.zeros(1, 2))
        >>> plan = plan_transfer(Tuned(size, 0.1), size, optimizer="sgd")
        >>> [group["lr"] for group in plan_groups(plan)(net)]
        [0.1]
    """
    if plan.optimizer.fallback is not None:
        raise PlanError(
            f"a plan for {plan.optimizer.name}, in timm's factory of one optimizer",
            "a plan for an optimizer of one kind",
            "combine torch.optim.Muon and AdamW with etastar.integrations.combined",
        )
    if layer_decay is not None:
        require_number("layer_decay", layer_decay, error=PlanError, above=0)

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        own = None if layer_decay is None else _layers(model, layer_decay, plan.base.lr)
        return plan.param_groups(model, groups=own, from_checkpoint=from_checkpoint)

    return groups


def _layers(model: nn.Module, layer_decay: float, lr: float) -> list[dict[str, Any]]:
    """One group a scale; the decay of weights is left to the plan."""
    try:
        from timm.optim import param_groups_layer_decay
    except ModuleNotFoundError as error:
        raise MissingExtraError("timm", "timm") from error
    found = param_groups_layer_decay(model, weight_decay=0.0, layer_decay=layer_decay)
    return [
        {"params": group["params"], "lr": lr * group["lr_scale"], "name": f"x{group['lr_scale']:g}"}
        for group in found
    ]
