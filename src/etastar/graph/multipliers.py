"""Factors on what parameters make: a network's own (1/L on branches), and where one can be put."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from etastar.graph.node import Node, Slot
from etastar.graph.operations import affine_form
from etastar.graph.residual import Branch

__all__ = ["OwnMultipliers", "output_scalers"]

_HOMOGENEOUS = frozenset(
    "add sub neg native_dropout relu leaky_relu mean sum cat stack avg_pool1d avg_pool2d avg_pool3d"
    " _adaptive_avg_pool2d _adaptive_avg_pool3d max_pool2d_with_indices index_add slice_scatter"
    " constant_pad_nd index index_select _to_copy clone contiguous copy _unsafe_view"
    " roll flip rot90 gather pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle"
    " reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d"
    " replication_pad3d upsample_nearest1d upsample_nearest2d upsample_nearest3d"
    " upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d".split()
)
"""Operations with f(m x) = m f(x) for every m > 0."""
_SCALING = frozenset(("mul", "div"))


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
        """Factor on what a parameter makes, which the operation `node` consumes.

        The product of the factors behind the operation and, but for a bias, before it: those
        between two layers belong to the earlier one. 1 where a norm absorbs them, a tensor that is
        neither data nor a parameter takes part, or they scale an attention's scores.
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
            factor *= _factor(reader, index)
            if reader.index in self.ends:
                break
            index = reader.index
        return factor

    def before(self, node: Node) -> float:
        """The part of it before the operation."""
        is_layer = node.weight is not None
        factor, inputs = 1.0, () if node.kind == "norm" else node.inputs
        while len(inputs) == 1:
            maker = self.nodes[inputs[0]]
            if (is_layer and maker.weight is not None) or _has_unknown_factor(maker):
                return 1.0
            if maker.weight is not None or maker.index in self.ends or not _is_homogeneous(maker):
                break
            inputs = maker.inputs
            factor *= _factor(maker, inputs[0]) if inputs else 1.0
        return factor


def _is_homogeneous(node: Node) -> bool:
    return node.kind == "view" or node.name in _HOMOGENEOUS | _SCALING


def _has_unknown_factor(node: Node) -> bool:
    return node.name in _SCALING and any(not (o.producers or o.parameters) for o in node.operands)


def _factor(node: Node, producer: int) -> float:
    """The number by which a node multiplies one of its inputs; without the sign."""
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


def output_scalers(
    nodes: Sequence[Node],
    branch: Branch,
    before: Sequence[frozenset[int]],
    shared: Container[str] = (),
) -> frozenset[int]:
    """Nodes whose parameters, all multiplied by m > 0, multiply the branch's output by m.

    They are the last weight layers (with their biases), or the gains and shifts behind them; none
    where an operation in between does not pass a factor on, a norm without gain absorbs it, or the
    stream itself is gated, so that no factor belongs to the branch.

    Args:
        nodes: The nodes of the graph.
        branch: A branch of it.
        before: Nearest counted nodes before each node.
        shared: Parameters that several operations read: the gains of all layers in one tensor.

    Reference:
        [TP6] arXiv 2310.02244 and [CP] arXiv 2505.01618 put a multiplier on each branch's output.
    """
    if branch.is_gated:
        return frozenset()
    walk = _Walk(nodes, branch, before, shared)
    return walk.union(nodes[branch.addition].inputs) or frozenset()


@dataclass
class _Walk:
    """Backwards from the addition to what scales the branch; None where a factor is lost."""

    nodes: Sequence[Node]
    branch: Branch
    before: Sequence[frozenset[int]]
    shared: Container[str]
    known: dict[int, frozenset[int] | None] = field(default_factory=dict)

    def union(self, producers: Sequence[int]) -> frozenset[int] | None:
        """What scales all of these at once; what does not come from the branch is passed over."""
        found: frozenset[int] = frozenset()
        for producer in producers:
            scalers = self.of(producer)
            if scalers is None:
                return None
            found |= scalers
        return found

    def of(self, index: int) -> frozenset[int] | None:
        """What scales the output of one node."""
        if index not in self.known:
            self.known[index] = self._find(self.nodes[index])
        return self.known[index]

    def _find(self, node: Node) -> frozenset[int] | None:
        is_behind = bool(self.before[node.index] & (self.branch.last | self.branch.inner))
        if node.index in self.branch.last or (is_behind and self._is_gain(node)):
            return frozenset((node.index,))
        if node.index in self.branch.positions and node.index not in self.branch.inner:
            return None
        if not is_behind:
            return frozenset()
        if node.name in _SCALING and len(node.inputs) > 1:
            return self._product(node)
        if node.kind == "norm" or not _is_homogeneous(node):
            return None
        found = self.union(node.inputs)
        is_own = bool(node.parameters) and node.name not in _SCALING
        own = frozenset((node.index,) if is_own else ())
        return None if found is None else found | own

    def _product(self, node: Node) -> frozenset[int] | None:
        """A product scales with one factor, if the other one does not depend on what scales it."""
        factors = [o.producers for o in node.operands if o.producers]
        for number, producers in enumerate(factors[:1] if node.name == "div" else factors):
            scalers = self.union(producers)
            others = [p for i, o in enumerate(factors) if i != number for p in o]
            if scalers and not self._depends(others, scalers):
                return scalers
        return None

    def _depends(self, producers: list[int], scalers: frozenset[int]) -> bool:
        first, seen, pending = min(scalers), set[int](), list(producers)
        while pending:
            index = pending.pop()
            if index in scalers:
                return True
            if index >= first and index not in seen:
                seen.add(index)
                pending += self.nodes[index].inputs
        return False

    def _is_gain(self, node: Node) -> bool:
        """Multiplies by a (w + c) of a parameter of its own: an affine norm, a layer scale."""
        if any(len(operand.parameters) > 1 for operand in node.operands):
            return False  # a factor on each of a product's parameters would count twice
        is_scaled = node.kind == "norm" or (node.name in _SCALING and len(node.inputs) == 1)
        read = [operand for operand in node.operands if operand.parameters]
        return (
            is_scaled
            and bool(read)
            and not any(name in self.shared for name in node.parameters)
            and all(affine_form(operand.steps) is not None for operand in read)
        )
