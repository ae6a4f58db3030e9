"""One executed operation: what it reads, its kind, and the fans of the weight that it uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from etastar.graph.arguments import tensors_in
from etastar.graph.node import Call, Kind, Operand, ParameterRecord, Slot, WeightUse
from etastar.graph.operations import Operation, TensorProduct
from etastar.graph.regions import Value

__all__ = ["ContractedPair", "Step", "contracted_pair", "named_arguments", "weight_use"]


def _carries(tensor: torch.Tensor) -> bool:
    """Whether a tensor can hold activations: floating point or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


class Step:
    """One executed operation, before it is known what it is to the graph."""

    def __init__(
        self,
        operation: Operation,
        call: Call,
        tensors: list[torch.Tensor],
        values: list[Value],
        outputs: list[torch.Tensor],
        fresh: list[torch.Tensor],
        mutated: list[torch.Tensor],
        views: list[torch.Tensor],
    ) -> None:
        self.operation = operation
        self.call = call
        self.tensors = tensors
        self.values = values
        self.outputs = outputs
        self.fresh = fresh
        self.mutated = mutated
        self.views = views

    def _is_read(self, tensor: torch.Tensor) -> bool:
        return self.operation.reads_mutated or not any(tensor is m for m in self.mutated)

    def is_fresh(self, tensor: torch.Tensor) -> bool:
        """Whether it made the storage of a result."""
        return any(tensor is t for t in self.fresh)

    def data_operands(self) -> list[int]:
        """Operands that carry activations: the floating ones, else integers that are data."""
        data = [
            i
            for i, (tensor, value) in enumerate(zip(self.tensors, self.values, strict=True))
            if value.producers and self._is_read(tensor)
        ]
        floating = [i for i in data if _carries(self.tensors[i])]
        return floating or data

    def holds_data(self, tensor: torch.Tensor, data: list[int]) -> bool:
        """Whether a result depends on the data operands in value, not only in its index."""
        if _carries(tensor) or self.views:
            return True
        if any(_carries(self.tensors[i]) for i in data):
            return False
        return tensor.dtype is not torch.bool or self._builds_one_hot(tensor, data)

    def _builds_one_hot(self, tensor: torch.Tensor, data: list[int]) -> bool:
        if any(self.tensors[i].dtype is torch.bool for i in data):
            return True  # what was kept once is kept
        is_table = self.operation.is_equality and len(data) == 1 and len(self.tensors) == 2
        return is_table and tensor.numel() > self.tensors[data[0]].numel()

    def operands(self, data: list[int]) -> tuple[Operand, ...]:
        """Every tensor argument; what carries no activation has no producers."""
        return tuple(
            Operand(
                value.producers if i in data else (),
                value.parameters if self._is_read(tensor) else (),
                tuple(tensor.shape),
            )
            for i, (tensor, value) in enumerate(zip(self.tensors, self.values, strict=True))
        )

    def parameter_value(self) -> Value:
        """The parameters that a result without data was computed from."""
        names: dict[str, None] = {}
        for tensor, value in zip(self.tensors, self.values, strict=True):
            if self._is_read(tensor):
                names.update(dict.fromkeys(value.parameters))
        return Value((), tuple(names))

    def fused_addend(self) -> int | None:
        """Operand position of a fused addend; it comes first in all such operations."""
        return self.operation.fused_addend

    def addends(self) -> tuple[int, ...]:
        """Operand positions that are summed."""
        if self.operation.name == "index_put" and True in self.call.args[3:4]:
            return (0, len(self.tensors) - 1)
        addends = self.operation.addends
        return addends if addends and max(addends) < len(self.tensors) else ()

    def groups(self) -> int:
        """Groups of a convolution; 1 for everything else."""
        names = self.operation.argument_names
        if "groups" not in names:
            return 1
        position = names.index("groups")
        args, kwargs = self.call.args, self.call.kwargs
        return int(args[position] if position < len(args) else kwargs.get("groups", 1))

    def classify(
        self, operands: tuple[Operand, ...], records: dict[str, ParameterRecord]
    ) -> tuple[Kind, WeightUse | None, bool]:
        """Kind, use of a weight, and whether it mixes positions, given what the operands are."""
        operation, call = self.operation, self.call
        pair = contracted_pair(operation, call.args, call.kwargs)
        if pair is not None:
            weight = weight_use(pair, operands, records, groups=self.groups())
            if weight is not None:
                return "weight layer", weight, False
        if operation.is_attention:
            return "attention contraction", None, True
        if pair is not None and pair.product is not None:
            both = (operands[pair.left], operands[pair.right])
            if all(o.producers for o in both):
                return "attention contraction", None, True
            return "other", None, not any(o.parameters for o in both)
        if operation.is_norm:
            return "norm", None, False
        kind: Kind = "activation" if operation.is_activation else "other"
        return kind, None, operation.is_mixing


def named_arguments(
    operation: Operation, names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    """Tensors within the named arguments of an operation.

    Args:
        operation: The operation.
        names: Names of some of its arguments.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The tensors, in the order of the names.
    """
    found: list[torch.Tensor] = []
    for name in names:
        position = operation.argument_names.index(name)
        value = args[position] if position < len(args) else kwargs.get(name)
        found += tensors_in(value)
    return found


class ContractedPair:
    """The two operands that an operation contracts, or looks up, as operand positions.

    Args:
        left: Operand position of the first factor.
        right: Operand position of the second one.
        product: What kind of product it is; None for a lookup, table first.
        transposed: Whether a convolution is transposed.
    """

    def __init__(
        self, left: int, right: int, product: TensorProduct | None, *, transposed: bool = False
    ) -> None:
        self.left = left
        self.right = right
        self.product = product
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


def contracted_pair(
    operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ContractedPair | None:
    """The two operands that an operation contracts, or looks up.

    Args:
        operation: The operation.
        args: Its positional arguments, with a `Slot` for every tensor.
        kwargs: Its keyword arguments, likewise.

    Returns:
        The pair; None if the operation is neither.
    """
    product, lookup = operation.product, operation.lookup
    if product is None and lookup is None:
        return None
    left, right = (product.left, product.right) if product else lookup or (0, 1)
    slots = [_slot(_argument(operation, args, kwargs, p)) for p in (left, right)]
    if slots[0] is None or slots[1] is None:
        return None
    transposed = bool(
        product
        and product.family == "convolution"
        and "transposed" in operation.argument_names
        and _argument(operation, args, kwargs, operation.argument_names.index("transposed"))
    )
    return ContractedPair(slots[0], slots[1], product, transposed=transposed)


def weight_use(
    pair: ContractedPair,
    operands: Sequence[Operand],
    records: dict[str, ParameterRecord],
    *,
    groups: int = 1,
) -> WeightUse | None:
    """How a weight layer uses its weight.

    Args:
        pair: What the operation contracts.
        operands: All its operands.
        records: The parameters of the model.
        groups: Groups of a convolution.

    Returns:
        The use; None unless exactly one factor depends on an input and the other holds a parameter
        of two or more dimensions.
    """
    for data, weight in ((pair.left, pair.right), (pair.right, pair.left)):
        held = operands[weight]
        names = tuple(n for n in held.parameters if len(records[n].shape) >= 2)
        if operands[data].producers and not held.producers and names:
            return _use(pair, operands, weight, names, groups)
    return None


def _use(
    pair: ContractedPair,
    operands: Sequence[Operand],
    weight: int,
    names: tuple[str, ...],
    groups: int,
) -> WeightUse | None:
    shape = operands[weight].shape
    if pair.product is None:
        if weight != pair.left:
            return None
        return WeightUse("embedding", names, 1, math.prod(shape[1:]), (), weight)
    if pair.product.family == "convolution":
        return _convolution_use(pair, shape, names, weight, groups)
    if pair.product.family == "bilinear":
        return WeightUse("linear", names, math.prod(shape[-2:]), shape[0], (), weight)
    fan_in, fan_out = _matmul_fans(pair, shape, weight)
    return WeightUse("linear", names, fan_in, fan_out, (), weight)


def _matmul_fans(pair: ContractedPair, shape: tuple[int, ...], weight: int) -> tuple[int, int]:
    """Contracted and free size of a matrix factor; of "linear", the weight is (out, in)."""
    if len(shape) < 2:
        return shape[-1], 1
    is_left = weight == pair.left
    is_linear = pair.product is not None and pair.product.family == "linear"
    return (shape[-1], shape[-2]) if is_left or is_linear else (shape[-2], shape[-1])


def _convolution_use(
    pair: ContractedPair, shape: tuple[int, ...], names: tuple[str, ...], weight: int, groups: int
) -> WeightUse:
    """Fans of (out, in / groups, *kernel), or transposed (in, out / groups, *kernel)."""
    kernel = math.prod(shape[2:])
    if pair.transposed:
        fan_in, fan_out = shape[0] // groups * kernel, shape[1] * kernel
    else:
        fan_in, fan_out = shape[1] * kernel, shape[0] // groups * kernel
    return WeightUse("convolution", names, fan_in, fan_out, shape[2:], weight)
