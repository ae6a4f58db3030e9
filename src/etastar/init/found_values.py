"""What the values that a model was given say: drawn by default, or set on purpose."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from etastar.graph.dag import Node

__all__ = ["default_bound", "is_zero", "never_written", "set_on_purpose"]

_REPEATED = 1 / 8  # share of one value; of drawn numbers in bfloat16 at most about 1/100 are equal
_STANDARD_ERRORS = 5.0  # of the mean; one draw in two million leaves them
_FEWEST = 8  # values that have a mean and a spread worth the name
_MOST_ZERO = 2 / 3  # share of the weights above which a model counts as never initialized
_SMALLEST_DRAWN, _LARGEST_DRAWN = 1e-20, 1e6
_ROUNDING = 1e-2  # of a bound, in bfloat16


def is_zero(value: torch.Tensor | None) -> bool:
    """Whether a value is known, and zero throughout.

    Args:
        value: Value of a parameter; None where it is not known.

    Returns:
        True for zeros that hold memory.
    """
    return value is not None and not value.is_meta and not bool(value.detach().any())


def default_bound(layer: Node | None) -> float | None:
    """PyTorch draws the bias of a layer from U(-b, b) with b = 1 / sqrt(fan_in).

    Args:
        layer: The weight layer that the bias belongs to.

    Returns:
        b, with the fan-in as PyTorch counts it; None without a layer.
    """
    if layer is None or layer.weight is None:
        return None
    fan_in = layer.weight.fan_in
    if layer.weight.layer_type == "convolution":
        fan_in = math.prod(layer.operands[layer.weight.operand].shape[1:])
    return 1 / math.sqrt(max(1, fan_in))


def set_on_purpose(value: torch.Tensor | None, bound: float | None) -> str | None:
    """Why a bias is taken for one that was set, not drawn around zero; None if it is not.

    Set are a prior (a constant), the bias of a forget gate (one in a quarter of it), a time
    constant (all of one sign): one value over and over, or values beyond PyTorch's default range
    whose mean is not zero. A bias that was trained may look the same.

    Args:
        value: The bias.
        bound: Of PyTorch's default range; None where there is none.

    Returns:
        What shows it, in words.

    Example:
        >>> set_on_purpose(torch.full((4,), -4.6), bound=0.1)
        'it holds -4.6 over and over'
        >>> set_on_purpose(torch.tensor([0.02, -0.07, 0.05]), bound=0.1) is None
        True
    """
    if value is None or value.is_meta or is_zero(value) or not value.numel():
        return None
    flat = value.detach().to("cpu", torch.float64).flatten()
    value_of_most, count = Counter(flat[flat != 0].tolist()).most_common(1)[0]
    if count >= max(2.0, _REPEATED * len(flat)):
        return f"it holds {value_of_most:.6g} over and over"
    largest = float(flat.abs().max())
    if bound is not None and largest <= bound * (1 + _ROUNDING):
        return None
    if len(flat) < _FEWEST:
        return f"it holds {float(flat[flat.abs().argmax()]):.6g}, which no default draws"
    mean, error = float(flat.mean()), float(flat.std()) / math.sqrt(len(flat))
    if abs(mean) > _STANDARD_ERRORS * error:
        return f"its values are around {mean:.3g}, not around 0"
    return None


def never_written(values: Mapping[str, torch.Tensor], weights: Collection[str]) -> bool:
    """Whether a model's memory was never written to, as `model.to_empty` leaves it.

    Such memory is zero for the most part, or holds numbers that no initialization draws.

    Args:
        values: Values of the parameters by name.
        weights: Names of those that are weights.

    Returns:
        True if nothing in it can have been set on purpose.

    Example:
        >>> never_written({"w": torch.zeros(2, 2)}, ["w"])
        True
        >>> never_written({"w": torch.ones(2, 2)}, ["w"])
        False
    """
    known = {n: v.detach() for n, v in values.items() if not v.is_meta and not v.is_complex()}
    zero = sum(is_zero(known[name]) for name in weights if name in known)
    if zero > _MOST_ZERO * sum(name in known for name in weights):
        return True
    return any(_is_strange(value) for value in known.values() if value.is_floating_point())


def _is_strange(value: torch.Tensor) -> bool:
    sizes = value.abs().to(torch.float32)
    drawn = (sizes == 0) | ((sizes > _SMALLEST_DRAWN) & (sizes < _LARGEST_DRAWN))
    return not bool(drawn.all())
