"""Which sizes of a parameter are widths: feature dimensions of an activation between two layers.

The rank of an adapter, the number of experts, heads, classes or layers is a size too, and none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from etastar.graph.node import Node, Operand, WeightUse

__all__ = ["NO_WIDTH", "FeatureSizes"]

NO_WIDTH = 0

_LINEAR = frozenset(
    "_to_copy clone contiguous _unsafe_view native_dropout dropout alias detach mul div".split()
)
_STACKED = 3  # dimensions of (experts, in, out)
_SELECTING = frozenset(("_softmax", "softmax", "topk", "_safe_softmax"))
_TO_SELECTION = _LINEAR | {"sigmoid", "add", "sub"}


@dataclass(frozen=True)
class FeatureSizes:
    """Finds the features that a weight reads and makes, and that a vector belongs to.

    Attributes:
        nodes: The nodes of a graph.
        consumers: Nodes that read each node.
        ends: Nodes whose values the network returns.
        streams: Sizes of the features of residual streams.
        shapes: Shape of every parameter.
    """

    nodes: Sequence[Node]
    consumers: Mapping[int, Sequence[int]]
    ends: frozenset[int]
    streams: frozenset[int]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(
        cls, nodes: Sequence[Node], added: Sequence[int], shapes: Mapping[str, tuple[int, ...]]
    ) -> FeatureSizes:
        """For a graph whose residual additions are the nodes `added`.

        Args:
            nodes: The nodes of a graph.
            added: Its residual additions.
            shapes: Shape of every parameter.

        Returns:
            What answers questions about it.
        """
        consumers: dict[int, list[int]] = {node.index: [] for node in nodes}
        for node in nodes:
            for producer in node.inputs:
                consumers[producer].append(node.index)
        sizes = {size for i in added for size in nodes[i].shape[1:]}
        ends = frozenset(index for index, read in consumers.items() if not read)
        return cls(nodes, consumers, ends, frozenset(sizes), shapes)

    def of_weight(self, node: Node, use: WeightUse, *, is_output: bool) -> tuple[int, int]:
        """Features that a weight layer reads and makes, `NO_WIDTH` where the size is no width.

        Args:
            node: The weight layer.
            use: How it uses its weight.
            is_output: Whether no other layer reads it, so that it makes classes.

        Returns:
            The two sizes.
        """
        read, made = self.of_one_expert(node, use)
        if is_output or self._selects(node) or self._rank_after(node, read, made):
            made = NO_WIDTH
        if self._rank_before(node):
            read = NO_WIDTH
        return read, made

    def of_one_expert(self, node: Node, use: WeightUse) -> tuple[int, int]:
        """Features that a weight layer reads and makes; of (experts, in, out) those of one expert.

        Two such weights in a row, with no attention between them, are experts: `bti,eio->bteo`
        makes what `bteo,eoi->btei` reads. Heads look the same, but for the attention.

        Args:
            node: The weight layer.
            use: How it uses its weight.

        Returns:
            The two sizes.
        """
        read, made = use.features or (use.fan_in, use.fan_out)
        experts, *sizes = self._stacked(node) or (1,)
        if read not in sizes and read // experts in sizes and self._beside(node, self._makers):
            read //= experts
        if made not in sizes and made // experts in sizes and self._beside(node, self._readers):
            made //= experts
        return read, made

    def _stacked(self, node: Node) -> tuple[int, ...]:
        """Shape of a weight with a dimension of experts or heads in front."""
        names = node.weight.parameters if node.weight is not None else ()
        shape = self.shapes[names[0]] if len(names) == 1 else ()
        return shape if len(shape) == _STACKED else ()

    def _readers(self, node: Node) -> Sequence[int]:
        return self.consumers[node.index]

    def _makers(self, node: Node) -> Sequence[int]:
        return node.inputs

    def _beside(self, node: Node, following: Callable[[Node], Sequence[int]]) -> bool:
        """Whether a weight with as many experts is the next layer, no attention in between."""
        experts, pending, seen = self._stacked(node)[0], list(following(node)), set[int]()
        while pending:
            other = self.nodes[pending.pop()]
            if other.weight is not None:
                if self._stacked(other)[:1] == (experts,):
                    return True
            elif other.kind != "attention contraction" and other.index not in seen:
                seen.add(other.index)
                pending += following(other)
        return False

    def is_of_experts(self, shape: tuple[int, ...], layer: int | None) -> bool:
        """Whether a table holds a bias for each expert of the layer that it is added to.

        Args:
            shape: Of the table.
            layer: The weight layer.
        """
        held = () if layer is None else self._stacked(self.nodes[layer])
        return bool(held) and len(shape) == _STACKED - 1 and shape in (held[:2], held[::2])

    def of_vector(self, node: Node, operand: Operand, *, is_output: bool) -> int:
        """Features that a bias, gain or added table belongs to, as the operation read it.

        Args:
            node: What consumes it.
            operand: The operand that holds it.
            is_output: Whether it is the bias of a layer that makes no features.

        Returns:
            Their number; `NO_WIDTH` for one number for all features, or one a layer, head or class.
        """
        size = math.prod(operand.shape)
        if is_output or size == 1 or (operand.shape[-1:] != node.shape[-1:] and self._heads(node)):
            return NO_WIDTH
        return self._positions_alone(node, operand, size)

    def _positions_alone(self, node: Node, operand: Operand, size: int) -> int:
        return NO_WIDTH if self._heads(node) and operand.shape[-2:] == node.shape[-2:] else size

    def _heads(self, node: Node) -> bool:
        """Whether it works on what an attention made, before any weight layer."""
        if node.kind == "attention contraction":
            return True
        seen: set[int] = set()
        pending = list(node.inputs)
        while pending:
            maker = self.nodes[pending.pop()]
            if maker.kind == "attention contraction":
                return True
            if maker.index not in seen and maker.kind in ("view", "other"):
                seen.add(maker.index)
                pending += maker.inputs
        return False

    def _selects(self, node: Node) -> bool:
        """Whether its outputs are chances of experts or classes: a softmax or choice reads them."""
        pending, seen = list(self.consumers[node.index]), set[int]()
        while pending:
            reader = self.nodes[pending.pop()]
            if reader.name in _SELECTING:
                return True
            passes = reader.kind == "view" or reader.name in _TO_SELECTION
            if passes and reader.index not in seen and len(reader.inputs) == 1:
                seen.add(reader.index)
                pending += self.consumers[reader.index]
        return False

    def _rank_after(self, node: Node, read: int, made: int) -> bool:
        """Whether it is the first of two factors of a matrix of low rank."""
        second = self._linear_successor(node)
        if second is None or second.weight is None or node.weight is None:
            return False
        if "linear" != node.weight.layer_type != second.weight.layer_type:
            return False
        inner, outer = second.weight.features or (second.weight.fan_in, second.weight.fan_out)
        return made == inner < min(read, outer) and made not in self.streams

    def _rank_before(self, node: Node) -> bool:
        """Whether it is the second of two factors of a matrix of low rank."""
        weight = node.weight.operand if node.weight else -1
        reached = [o.producers for i, o in enumerate(node.operands) if i != weight and o.producers]
        while len(reached) == 1 and len(reached[0]) == 1:
            maker = self.nodes[reached[0][0]]
            if maker.weight is not None:
                read, made = maker.weight.features or (maker.weight.fan_in, maker.weight.fan_out)
                return self._rank_after(maker, read, made)
            if not self._is_linear(maker):
                return False
            reached = [o.producers for o in maker.operands if o.producers]
        return False

    def _linear_successor(self, node: Node) -> Node | None:
        """The one weight layer that reads it, with nothing but constant factors in between."""
        while len(self.consumers[node.index]) == 1:
            node = self.nodes[self.consumers[node.index][0]]
            if node.weight is not None:
                return node
            if not self._is_linear(node):
                return None
        return None

    def _is_linear(self, node: Node) -> bool:
        if len(node.inputs) != 1 or node.parameters:
            return False
        return node.kind == "view" or node.name in _LINEAR
