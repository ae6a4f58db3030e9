"""Whether an operation is a weight layer, and the fans of its weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from etastar.graph.dag import Operand, ParameterRecord, Slot, WeightUse
from etastar.graph.operations import Contraction, Operation

__all__ = ["Factors", "contracted_factors", "weight_use"]


class Factors:
    """The two operands that an operation contracts, or looks up, as operand positions.

    Args:
        left: Operand position of the first factor.
        right: Operand position of the second one.
        contraction: What kind of contraction it is; None for a lookup, table first.
        transposed: Whether a convolution is transposed.
    """

    def __init__(
        self, left: int, right: int, contraction: Contraction | None, *, transposed: bool = False
    ) -> None:
        self.left = left
        self.right = right
        self.contraction = contraction
        self.transposed = transposed


def _slot(argument: Any) -> int | None:
    """Operand position of the first tensor within an argument."""
    if isinstance(argument, Slot):
        return argument.operand
    if isinstance(argument, (list, tuple)):
        return next((slot for child in argument if (slot := _slot(child)) is not None), None)
    return None


def _argument(operation: Operation, args: tuple[Any, ...], kwargs: Any, position: int) -> Any:
    if position < len(args):
        return args[position]
    names = operation.argument_names
    return kwargs.get(names[position]) if position < len(names) else None


def contracted_factors(
    operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Factors | None:
    """The factors of a contraction or lookup.

    Args:
        operation: The operation.
        args: Its positional arguments, with a `Slot` for every tensor.
        kwargs: Its keyword arguments, likewise.

    Returns:
        The factors; None if the operation is neither.
    """
    contraction, lookup = operation.contraction, operation.lookup
    if contraction is None and lookup is None:
        return None
    left, right = (contraction.left, contraction.right) if contraction else lookup or (0, 1)
    slots = [_slot(_argument(operation, args, kwargs, p)) for p in (left, right)]
    if slots[0] is None or slots[1] is None:
        return None
    transposed = bool(
        contraction
        and contraction.family == "convolution"
        and "transposed" in operation.argument_names
        and _argument(operation, args, kwargs, operation.argument_names.index("transposed"))
    )
    return Factors(slots[0], slots[1], contraction, transposed=transposed)


def weight_use(
    factors: Factors,
    operands: Sequence[Operand],
    records: dict[str, ParameterRecord],
    *,
    groups: int = 1,
) -> WeightUse | None:
    """How a weight layer uses its weight.

    Args:
        factors: The factors of the operation.
        operands: All its operands.
        records: The parameters of the model.
        groups: Groups of a convolution.

    Returns:
        The use; None unless exactly one factor depends on an input and the other holds a parameter
        of two or more dimensions.
    """
    for data, weight in ((factors.left, factors.right), (factors.right, factors.left)):
        held = operands[weight]
        names = tuple(n for n in held.parameters if len(records[n].shape) >= 2)
        if operands[data].producers and not held.producers and names:
            return _use(factors, operands, weight, names, groups)
    return None


def _use(
    factors: Factors,
    operands: Sequence[Operand],
    weight: int,
    names: tuple[str, ...],
    groups: int,
) -> WeightUse | None:
    shape = operands[weight].shape
    if factors.contraction is None:
        if weight != factors.left:
            return None
        return WeightUse("embedding", names, 1, math.prod(shape[1:]), (), weight)
    if factors.contraction.family == "convolution":
        return _convolution_use(factors, shape, names, weight, groups)
    if factors.contraction.family == "bilinear":
        return WeightUse("linear", names, math.prod(shape[-2:]), shape[0], (), weight)
    fan_in, fan_out = _matmul_fans(factors, shape, weight)
    return WeightUse("linear", names, fan_in, fan_out, (), weight)


def _matmul_fans(factors: Factors, shape: tuple[int, ...], weight: int) -> tuple[int, int]:
    """Contracted and free size of a matrix factor; of "linear", the weight is (out, in)."""
    if len(shape) < 2:
        return shape[-1], 1
    is_left = weight == factors.left
    is_linear = factors.contraction is not None and factors.contraction.family == "linear"
    return (shape[-1], shape[-2]) if is_left or is_linear else (shape[-2], shape[-1])


def _convolution_use(
    factors: Factors, shape: tuple[int, ...], names: tuple[str, ...], weight: int, groups: int
) -> WeightUse:
    """Fans of (out, in / groups, *kernel), or transposed (in, out / groups, *kernel)."""
    kernel = math.prod(shape[2:])
    if factors.transposed:
        fan_in, fan_out = shape[0] // groups * kernel, shape[1] * kernel
    else:
        fan_in, fan_out = shape[1] * kernel, shape[0] // groups * kernel
    return WeightUse("convolution", names, fan_in, fan_out, shape[2:], weight)
