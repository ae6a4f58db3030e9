"""One executed operation, before it is known what it is to the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from etastar.graph.arguments import tensors_in
from etastar.graph.dag import Call, Operand
from etastar.graph.operations import Operation
from etastar.graph.storage import Value

__all__ = ["Step", "named_arguments"]


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
