"""What a transfer came to, as plain data for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etastar.transfer import TransferPlan

__all__ = ["plan_summary"]


def plan_summary(plan: TransferPlan) -> dict[str, Any]:
    """The plan without its single parameters: depths, law, learning rate, groups, notes.

    Args:
        plan: A transfer plan.

    Returns:
        Plain data; `lr` is that of the hidden weights.

    Example:
        >>> import torch
        >>> from etastar.transfer import plan_transfer
        >>> net = torch.nn.Linear(2, 2), (torch.zeros(1, 2),)
        >>> plan_summary(plan_transfer(net, net, lr=0.5, optimizer="sgd"))["lr"]
        0.5
    """
    return {
        "base_depth": plan.base_depth,
        "target_depth": plan.target_depth,
        "law": plan.law,
        "lr": plan.lr,
        "groups": [asdict(group) for group in plan.groups],
        "notes": list(plan.notes),
    }
