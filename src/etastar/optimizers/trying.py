"""How the step of an optimizer depends on the scale of the gradient and of the parameter, tried."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["step_powers"]

_SCALE = 8.0
_STEPS = 12  # RAdam's first five are linear in the gradient
_LR = 1e-3


def step_powers(optimizer: type[Optimizer]) -> tuple[float, float] | None:
    """With which power of the gradient's and of the parameter's scale a step goes.

    Twelve steps on one matrix with a fixed gradient, without weight decay; then with the gradient,
    and with the matrix, eight times as large. log(size of the last step's ratio) / log(8).

    Args:
        optimizer: Its class.

    Returns:
        Both powers; None where it cannot be made of a parameter and a rate, does not step without
        a closure, or does not move.

    Example:
        >>> step_powers(torch.optim.SGD), step_powers(torch.optim.Adafactor)
        ((1.0, 0.0), (0.0, 1.0))
    """
    try:
        sizes = [_last_step(optimizer, g, p) for g, p in ((1, 1), (_SCALE, 1), (1, _SCALE))]
    except Exception:
        return None  # code of others: what it needs is not known here
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    gradient, parameter = (
        round(math.log(size / sizes[0]) / math.log(_SCALE), 2) + 0.0 for size in sizes[1:]
    )
    return gradient, parameter


def _last_step(optimizer: type[Optimizer], gradient: float, size: float) -> float:
    weight = torch.nn.Parameter(_wave(1.0).mul(size))
    no_decay = "weight_decay" in inspect.signature(optimizer.__init__).parameters
    made: Any = optimizer
    stepping: Optimizer = made([weight], lr=_LR, **({"weight_decay": 0.0} if no_decay else {}))
    before = weight.detach().clone()
    for _ in range(_STEPS):
        before = weight.detach().clone()
        weight.grad = _wave(0.7).mul(gradient)
        stepping.step()
    return float((weight.detach() - before).norm())


def _wave(step: float) -> Tensor:
    """A matrix of numbers between -1 and 1 of no structure; nothing is drawn."""
    return torch.sin(step * torch.arange(1.0, 65.0, dtype=torch.float64) ** 2).reshape(8, 8)
