"""Constant factors that a network itself puts on what its parameters make: 1/L on branches."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from etastar.graph.node import Node, Slot
from etastar.graph.scalers import HOMOGENEOUS

__all__ = ["OwnMultipliers", "constant_factor"]


@dataclass(frozen=True)
class OwnMultipliers:
    """Finds the numbers that lie between a parameter and what reads the layer next.

    Only numbers of the program count, `x * 0.5`, `x / 4` and `add(x, y, alpha=0.5)`; what is
    learned is a parameter, and the values of other tensors (a mask that was drawn) are not known.

    Attributes:
        nodes: The nodes of a graph.
        consumers: Nodes that read each node.
        ends: Additions of residual streams.
    """

    nodes: Sequence[Node]
    consumers: Mapping[int, Sequence[int]]
    ends: Container[int]

    def of(self, node: Node, *, is_bias: bool) -> float:
        """Factor on what a parameter makes.

        Args:
            node: The operation that consumes it.
            is_bias: Whether it is added, so that a factor on the operation's input is none on it.

        Returns:
            The product of the factors behind the operation and, but for a bias, before it: those
            between two layers belong to the earlier one. 1 where a norm absorbs them, a tensor
            that is neither data nor a parameter takes part, or they scale an attention's scores.
        """
        if node.kind == "attention contraction":
            return 1.0
        behind = self._behind(node.index)
        return behind if is_bias else behind * self.before(node)

    def _behind(self, index: int) -> float:
        factor = 1.0
        while len(self.consumers[index]) == 1:
            reader = self.nodes[self.consumers[index][0]]
            if reader.kind == "norm" or _has_unknown_factor(reader):
                return 1.0
            if reader.weight is not None or not _is_homogeneous(reader):
                break
            factor *= constant_factor(reader, index)
            if reader.index in self.ends:
                break
            index = reader.index
        return factor

    def before(self, node: Node) -> float:
        """The part of it before the operation.

        Args:
            node: The operation that consumes the parameter.
        """
        is_layer = node.weight is not None
        factor, inputs = 1.0, () if node.kind == "norm" else node.inputs
        while len(inputs) == 1:
            maker = self.nodes[inputs[0]]
            if (is_layer and maker.weight is not None) or _has_unknown_factor(maker):
                return 1.0
            if maker.weight is not None or maker.index in self.ends or not _is_homogeneous(maker):
                break
            inputs = maker.inputs
            factor *= constant_factor(maker, inputs[0]) if inputs else 1.0
        return factor


def _is_homogeneous(node: Node) -> bool:
    return node.kind == "view" or node.name in HOMOGENEOUS or node.name in ("mul", "div")


def _has_unknown_factor(node: Node) -> bool:
    is_product = node.name in ("mul", "div")
    return is_product and any(not (o.producers or o.parameters) for o in node.operands)


def constant_factor(node: Node, producer: int) -> float:
    """The number by which a node multiplies one of its inputs; without the sign.

    Args:
        node: The node.
        producer: The node that made the input.
    """
    if node.call is None or len(node.call.args) < 2:
        return 1.0
    first, second = node.call.args[:2]
    if node.name in ("add", "sub") and isinstance(second, Slot):
        is_scaled = producer in node.operands[second.operand].producers
        number, power = node.call.kwargs.get("alpha", 1) if is_scaled else 1, 1
    else:
        number, power = second, {"mul": 1, "div": -1}.get(node.name, 0)
    known = isinstance(first, Slot) and isinstance(number, (int, float)) and number != 0
    return abs(float(number)) ** power if known and math.isfinite(number) else 1.0
