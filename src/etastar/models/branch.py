"""The residual addition with an explicit multiplier."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["add_branch"]


def add_branch(x: Tensor, branch: Tensor, multiplier: float) -> Tensor:
    """The residual addition x + multiplier * branch.

    At 1.0 nothing is multiplied, so that the network is the ordinary one.

    Args:
        x: The residual stream, any shape.
        branch: The branch's output, same shape.
        multiplier: The factor m of [TP6] (K^(-1/2)) and [CP] (1/K).

    Returns:
        The stream after the addition, same shape.

    Example:
        >>> import torch
        >>> add_branch(torch.ones(2), torch.full((2,), 4.0), 0.25)
        tensor([2., 2.])
    """
    if multiplier == 1.0:
        return x + branch
    return x + multiplier * branch
