"""Records of what was executed: nodes, what they read, how they use weights, and which bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from etastar.parameter import LayerType

Kind = Literal[
    "input",
    "weight layer",
    "residual addition",
    "norm",
    "activation",
    "attention contraction",
    "view",
    "other",
]


@dataclass(frozen=True, slots=True)
class Operand:
    """What a tensor was computed from; of one that an operation read, with its shape.

    Attributes:
        producers: Nodes whose values it holds; several where a buffer was filled in parts, none
            where it does not depend on an input.
        parameters: Names of the parameters it was computed from.
        shape: Shape of the tensor.
        steps: Calls that led to it from its one parameter, where no input took part; None where it
            is no element-wise function of one.
        weights: Weights that were contracted on the way, where no input took part: what acts on
            learned queries.
        parts: Region of each of the parameters of which it is a slice, or was computed from one.
        carrier: Of a product of parameters, element by element: the one that takes a factor.
    """

    producers: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    steps: tuple[Call, ...] | None = field(default=(), compare=False, repr=False)
    weights: tuple[WeightUse, ...] = ()
    parts: tuple[tuple[str, Region], ...] = ()
    carrier: str = field(default="", compare=False, repr=False)

    def __or__(self, other: Operand) -> Operand:
        """What was computed from both."""
        if other == NOTHING:
            return self
        if self == NOTHING:
            return other
        is_one = (self.parameters, self.steps) == (other.parameters, other.steps)
        return Operand(
            tuple(dict.fromkeys(self.producers + other.producers)),
            tuple(dict.fromkeys(self.parameters + other.parameters)),
            steps=self.steps if is_one else None,
            weights=tuple(dict.fromkeys(self.weights + other.weights)),
            parts=tuple(dict.fromkeys(self.parts + other.parts)),
        )


NOTHING = Operand()
"""What does not depend on an input or a parameter."""


@dataclass(frozen=True, slots=True)
class WeightUse:
    """How a weight layer uses its weight.

    Attributes:
        layer_type: What the layer is.
        parameters: Names of the parameters of two or more dimensions that make the weight.
        fan_in: Terms summed into one output unit.
        fan_out: Output units that one input unit reaches.
        kernel_size: Spatial kernel of a convolution, else ().
        operand: Position of the weight among the node's operands.
        features: Features of what it reads (of a grouped layer in one group), and of what it makes;
            None where these are the fans.
    """

    layer_type: LayerType
    parameters: tuple[str, ...]
    fan_in: int
    fan_out: int
    kernel_size: tuple[int, ...] = ()
    operand: int = 1
    features: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """Stands for operand number `operand` in the arguments of a `Call`."""

    operand: int


@dataclass(frozen=True, slots=True)
class Call:
    """What was called, with a `Slot` in place of every tensor: enough to call it again."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def on(self, tensors: Sequence[torch.Tensor]) -> Any:
        """The same call on other tensors."""

        def filled(value: Any) -> Any:
            if isinstance(value, Slot):
                return tensors[value.operand]
            return type(value)(map(filled, value)) if isinstance(value, (list, tuple)) else value

        kwargs = {name: filled(value) for name, value in self.kwargs.items()}
        return self.func(*filled(self.args), **kwargs)

    def __reduce__(self) -> tuple[Callable[..., Call], tuple[Any, ...]]:
        """By the operation's name: operations themselves cannot be pickled."""
        return _named_call, (str(self.func), self.args, self.kwargs)


def _named_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """A call of the operation "aten.mm.default", or of the higher-order operator "name"."""
    place: Any = torch.ops if "." in name else torch.ops.higher_order
    for part in name.split("."):
        place = getattr(place, part)
    return Call(place, args, kwargs)


@dataclass(frozen=True, slots=True)
class Node:
    """One executed operation that depends on an input.

    Attributes:
        index: Its place in the order of execution, and in `Graph.nodes`.
        op: The ATen operation, "aten.addmm.default"; "input" for a source.
        kind: See `Kind`.
        module: Dotted path of the module it ran in; "" for the root.
        operands: The tensors it read, in the order of its arguments.
        shape: Shape of its (first carried) output.
        dtype: Dtype of that output, "torch.float32".
        weight: How the weight is used; None unless a weight layer.
        addends: Positions of the operands that it sums; () unless it is a sum.
        mixes: Whether it exchanges information between positions without a weight.
        call: The call itself; None for inputs and recurrent modules.
    """

    index: int
    op: str
    kind: Kind
    module: str
    operands: tuple[Operand, ...]
    shape: tuple[int, ...]
    dtype: str
    weight: WeightUse | None = None
    addends: tuple[int, ...] = ()
    mixes: bool = False
    call: Call | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Name of the operation, without namespace, overload and the underscore of "in place"."""
        return self.op.split(".")[:2][-1].rstrip("_")

    @property
    def inputs(self) -> tuple[int, ...]:
        """Nodes whose outputs it read, each once, in order."""
        return tuple(dict.fromkeys(p for operand in self.operands for p in operand.producers))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters it consumed, each once, in order."""
        return tuple(dict.fromkeys(n for operand in self.operands for n in operand.parameters))


def reached(
    nodes: Sequence[Node], start: Iterable[int], onward: Callable[[Node], Iterable[int]]
) -> Iterator[Node]:
    """The nodes that are reached from some, each once; `onward` says where to go from each."""
    pending, seen = list(start), set[int]()
    while pending:
        index = pending.pop()
        if index not in seen:
            seen.add(index)
            yield nodes[index]
            pending += onward(nodes[index])


@dataclass(frozen=True, slots=True)
class ParameterRecord:
    """Shape, further names, whether the model marks it as one without weight decay.

    And whether it holds whole numbers: quantized, and not trained.
    """

    shape: tuple[int, ...]
    aliases: tuple[str, ...] = ()
    no_decay: bool = False
    is_quantized: bool = False


class Region(NamedTuple):
    """The bytes of a storage that a strided tensor covers."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Region:
        """Region of a strided tensor."""
        size = tensor.element_size()
        strides = tuple(s * size for s in tensor.stride())
        return cls(int(tensor.storage_offset()) * size, tuple(tensor.shape), strides, size)

    def in_elements(self) -> Region:
        """The same counted in elements, so that casts of one tensor can be compared."""
        size = self.itemsize
        return Region(self.offset // size, self.shape, tuple(s // size for s in self.strides), 1)

    def bounds(self) -> tuple[int, int]:
        """First byte, and the byte after the last one."""
        if 0 in self.shape:
            return self.offset, self.offset
        reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return self.offset, self.offset + reach + self.itemsize

    def is_dense(self) -> bool:
        """Whether it covers every byte between its bounds."""
        reach = self.itemsize
        for stride, n in sorted(zip(self.strides, self.shape, strict=True)):
            if n > 1:
                if stride > reach:
                    return False
                reach += stride * (n - 1)
        return True

    def holds(self, other: Region) -> bool:
        """Whether it is dense and has every byte of the other between its bounds."""
        (a, b), (c, d) = self.bounds(), other.bounds()
        return a <= c and d <= b and self.is_dense()

    def overlaps(self, other: Region) -> bool:
        """Whether the two share a byte; exact, but True where that is too hard to decide."""
        (a, b), (c, d) = self.bounds(), other.bounds()
        if b <= c or d <= a:
            return False
        if self.is_dense() and other.is_dense():
            return True
        try:
            effort: Any = 100_000  # the stubs know the named levels only
            return bool(np.shares_memory(self._as_array(), other._as_array(), max_work=effort))
        except np.exceptions.TooHardError:
            return True

    def _as_array(self) -> np.ndarray:
        """An array at this region of an imaginary storage; its memory is never touched."""
        interface = {
            "version": 3,
            "data": ((1 << 40) + self.offset, True),
            "shape": self.shape,
            "strides": self.strides,
            "typestr": f"|V{self.itemsize}",
        }
        return np.asarray(SimpleNamespace(__array_interface__=interface))
