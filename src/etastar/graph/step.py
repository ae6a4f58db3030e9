"""One executed operation: what it reads, its kind, and the fans of the weight that it uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from etastar.graph.node import (
    NOTHING,
    Call,
    Node,
    Operand,
    ParameterRecord,
    Slot,
    WeightUse,
    reached,
)
from etastar.graph.operations import Operation, TensorProduct, affine_form, derived_steps


def _carries(tensor: torch.Tensor) -> bool:
    """Whether a tensor can hold activations: floating point or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


@dataclass(frozen=True, eq=False)
class Step:
    """One executed operation, before it is known what it is to the graph.

    Attributes:
        operation: Its description.
        call: The call, with a `Slot` for every tensor.
        tensors: The tensors that stand for the slots.
        values: What each of them held before.
        fresh: Results that have a storage of their own.
        mutated: Arguments that it wrote to.
        views: Results that share an argument's storage, if it wrote to none.
    """

    operation: Operation
    call: Call
    tensors: list[torch.Tensor]
    values: list[Operand]
    fresh: list[torch.Tensor]
    mutated: list[torch.Tensor]
    views: list[torch.Tensor]

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
        if tensor.dtype is not torch.bool or any(self.tensors[i].dtype is torch.bool for i in data):
            return True  # what was kept once is kept
        is_table = self.operation.name == "eq" and len(data) == 1 and len(self.tensors) == 2
        return is_table and tensor.numel() > self.tensors[data[0]].numel()  # one-hot

    def operands(self, data: list[int]) -> tuple[Operand, ...]:
        """Every tensor argument; what carries no activation has no producers."""
        return tuple(
            Operand(
                value.producers if i in data else (),
                value.parameters if self._is_read(tensor) else (),
                tuple(tensor.shape),
                None if value.producers else value.steps,
                () if value.producers else value.weights,
                parts=value.parts if self._is_read(tensor) else (),
                carrier=value.carrier,
            )
            for i, (tensor, value) in enumerate(zip(self.tensors, self.values, strict=True))
        )

    def parameter_value(self, records: dict[str, ParameterRecord]) -> Operand:
        """The parameters that a result without data was computed from, and how."""
        read = (v for t, v in zip(self.tensors, self.values, strict=True) if self._is_read(t))
        joined = reduce(or_, read, NOTHING)
        names, weights = joined.parameters, joined.weights
        use = self._weight_without_data(records) if names else None
        if use is not None and use not in weights:
            weights += (use,)
        before = [value.steps if value.parameters else None for value in self.values]
        steps = derived_steps(self.operation, self.call, before) if names else ()
        carrier = joined.carrier or self._carrier(records)
        return replace(joined, steps=steps, weights=weights, carrier=carrier)

    def _carrier(self, records: dict[str, ParameterRecord]) -> str:
        """Of a product of two, w * gain, the larger that a factor reaches; "" of anything else."""
        held = [name for value in self.values for name in value.parameters]
        known = all(v.parameters and (v.carrier or v.steps is not None) for v in self.values)
        if self.operation.name != "mul" or not known or not 1 < len(held) == len({*held}):
            return ""
        with unset_fake_temporarily():  # the form is read off numbers
            parts = [
                v.carrier or v.parameters[0]
                for v in self.values
                if v.carrier or affine_form(v.steps)
            ]
        return max(parts, key=lambda name: math.prod(records[name].shape), default="")

    def _weight_without_data(self, records: dict[str, ParameterRecord]) -> WeightUse | None:
        """The right factor of a product, if it is a weight as it is: its left one is learned."""
        pair = self._contracted_pair()
        if pair is None or pair.family == "lookup":
            return None
        value = self.values[pair.right]
        names = tuple(n for n in value.parameters if len(records[n].shape) >= 2)
        if len(names) != 1 or value.weights or value.steps is None:
            return None
        return self._use(pair, tuple(self.tensors[pair.right].shape), pair.right, names)

    def _argument(self, name: str) -> Any:
        return self.operation.argument(name, self.call.args, self.call.kwargs)

    def _contracted_pair(self) -> TensorProduct | None:
        """Positions of the two operands that it contracts, or looks up; None if it does neither."""
        product, names = self.operation.product, self.operation.argument_names
        if product is None or product.right >= len(names):
            return None
        left, right = (_slot(self._argument(names[p])) for p in (product.left, product.right))
        return None if left is None or right is None else replace(product, left=left, right=right)

    def _weight_use(
        self,
        pair: TensorProduct,
        operands: Sequence[Operand],
        records: dict[str, ParameterRecord],
    ) -> WeightUse | None:
        """How a weight layer uses its weight.

        None unless exactly one factor depends on an input and the other holds a parameter of two or
        more dimensions.
        """
        ways = ((pair.left, pair.right), (pair.right, pair.left))
        for data, weight in ways[:1] if pair.family == "convolution" else ways:
            held = operands[weight]
            names = tuple(n for n in held.parameters if len(records[n].shape) >= 2)
            if operands[data].producers and not held.producers and names:
                return self._use(pair, held.shape, weight, names)
        return None

    def _use(
        self, pair: TensorProduct, shape: tuple[int, ...], weight: int, names: tuple[str, ...]
    ) -> WeightUse | None:
        match pair.family:
            case "lookup" if weight != pair.left:
                return None
            case "lookup":
                return WeightUse("embedding", names, 1, math.prod(shape[1:]), (), weight)
            case "convolution":
                return self._convolution(shape, weight, names)
            case "bilinear":
                return WeightUse("linear", names, math.prod(shape[-2:]), shape[0], (), weight)
        return WeightUse("linear", names, *_matmul_fans(pair, shape, weight), (), weight)

    def _convolution(
        self, shape: tuple[int, ...], weight: int, names: tuple[str, ...], *, copies: int = 1
    ) -> WeightUse:
        """Of a weight (out, in / groups, *kernel), or transposed (in, out / groups, *kernel).

        Of the taps of a transposed one, one in stride reaches an output, on the mean over positions
        and whatever the dilation.
        """
        groups, stride = self._argument("groups") or 1, self._argument("stride")
        groups = max(1, groups // copies)
        kernel = math.prod(shape[2:])
        if self._argument("transposed"):
            steps = math.prod(stride) if isinstance(stride, (list, tuple)) else 1
            fan_in = max(1, round(shape[0] // groups * kernel / steps))
            fan_out, features = shape[1] * kernel, (shape[0] // groups, shape[1] * groups)
        else:
            fan_in, fan_out = shape[1] * kernel, shape[0] // groups * kernel
            features = shape[1], shape[0]
        return WeightUse("convolution", names, fan_in, fan_out, shape[2:], weight, features)

    def with_modulated(
        self,
        operands: tuple[Operand, ...],
        nodes: Sequence[Node],
        records: Mapping[str, ParameterRecord],
    ) -> tuple[tuple[Operand, ...], WeightUse | None]:
        """Of a convolution whose kernel data were multiplied into: that weight, and its use."""
        pair = self._contracted_pair()
        if pair is None or pair.family != "convolution" or not operands[pair.right].producers:
            return operands, None
        held = operands[pair.right]
        kernel = held.shape[2:]

        def is_one(name: str) -> bool:
            shape = records[name].shape
            alike = math.prod(held.shape[1:]) > 1 and shape[-len(kernel) :] == kernel
            return alike and math.prod(held.shape) % math.prod(shape) == 0

        makers = reached(nodes, held.producers, lambda n: () if n.weight is not None else n.inputs)
        names = {p for n in makers if n.name in ("mul", "div") for p in n.parameters if is_one(p)}
        if len(names) != 1 or len(operands) <= pair.right:
            return operands, None
        (name,) = names
        copies = math.prod(held.shape) // math.prod(records[name].shape)  # one for each example
        shape = (held.shape[0] // copies, *held.shape[1:])
        use = self._convolution(shape, pair.right, (name,), copies=copies)
        made = replace(held, parameters=(name,), steps=None)
        return tuple(made if o is held else o for o in operands), use

    def _addends(self) -> tuple[int, ...]:
        """Operand positions that are summed."""
        if self.operation.name == "index_put" and True in self.call.args[3:4]:
            return (0, len(self.tensors) - 1)
        addends = self.operation.addends
        return addends if addends and max(addends) < len(self.tensors) else ()

    def classified(
        self, operands: tuple[Operand, ...], records: dict[str, ParameterRecord]
    ) -> dict[str, Any]:
        """What it is, given what its operands are: kind, weight, addends and mixes of its node."""
        group, pair = self.operation.group, self._contracted_pair()
        found: dict[str, Any] = {"addends": self._addends(), "call": self.call}
        if group == "mixing" and operands and not operands[0].producers:
            found["addends"] = ()  # a sum over neighbours, into zeros
        weight = None if pair is None else self._weight_use(pair, operands, records)
        is_batch = self.operation.name in ("bmm", "baddbmm")
        if weight is not None and is_batch and operands[weight.operand].weights:
            weight = None  # what a weight made of learned queries
        if weight is not None:
            return {**found, "kind": "weight layer", "weight": weight}
        is_product = pair is not None and pair.family != "lookup"
        both = (operands[pair.left], operands[pair.right]) if pair is not None else ()
        if group == "attention" or (is_product and all(o.producers or o.weights for o in both)):
            return {**found, "kind": "attention contraction", "mixes": True}
        if is_product:
            return {**found, "mixes": not any(o.parameters for o in both)}
        kind = group if group in ("norm", "activation") else "other"
        return {**found, "kind": kind, "mixes": group == "mixing"}


def _slot(argument: Any) -> int | None:
    """Operand position of the first tensor within an argument."""
    if isinstance(argument, Slot):
        return argument.operand
    if isinstance(argument, (list, tuple)):
        return next((slot for child in argument if (slot := _slot(child)) is not None), None)
    return None


def _matmul_fans(pair: TensorProduct, shape: tuple[int, ...], weight: int) -> tuple[int, int]:
    """Contracted and free size of a matrix factor; of "linear", the weight is (out, in)."""
    if len(shape) < 2:
        return shape[-1], 1
    is_out_first = weight == pair.left or pair.family == "linear"
    return (shape[-1], shape[-2]) if is_out_first else (shape[-2], shape[-1])
