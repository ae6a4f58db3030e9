"""Records of what was executed: nodes, what they read, and how they use weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from etastar.graph.strided import Region
from etastar.parameter import LayerType

__all__ = ["Call", "Kind", "Node", "Operand", "ParameterRecord", "Slot", "WeightUse"]

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
    """One tensor that an operation read.

    Attributes:
        producers: Nodes whose values it holds; several where a buffer was filled in parts, none
            where it does not depend on an input.
        parameters: Names of the parameters it was computed from.
        shape: Shape of the tensor.
        steps: Calls that led to it from its one parameter, where no input took part; None where it
            is no element-wise function of one.
        weights: Weights that were contracted on the way, where no input took part: what acts on
            learned queries.
        parts: Region of each of the parameters of which it is a slice.
    """

    producers: tuple[int, ...]
    parameters: tuple[str, ...]
    shape: tuple[int, ...]
    steps: tuple[Call, ...] | None = field(default=(), compare=False, repr=False)
    weights: tuple[WeightUse, ...] = ()
    parts: tuple[tuple[str, Region], ...] = ()


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
        parts = self.op.split(".")
        return parts[1 if len(parts) > 1 else 0].rstrip("_")

    @property
    def inputs(self) -> tuple[int, ...]:
        """Nodes whose outputs it read, each once, in order."""
        return tuple(dict.fromkeys(p for operand in self.operands for p in operand.producers))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters it consumed, each once, in order."""
        return tuple(dict.fromkeys(n for operand in self.operands for n in operand.parameters))


@dataclass(frozen=True, slots=True)
class ParameterRecord:
    """Shape, further names, and whether the model marks it as one without weight decay."""

    shape: tuple[int, ...]
    aliases: tuple[str, ...] = ()
    no_decay: bool = False
