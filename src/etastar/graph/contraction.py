"""From executed operations to counted nodes: data inputs, residual additions, frontiers.

The *frontier* of a tensor is the set of its nearest counted ancestors (or sources). Frontiers are
held as bit masks over node indices, so that union and comparison are single integer operations.
A second mask holds what was reached through a mixing operation (pooling, Fourier transform,
attention), so that `x + pool(x)` is told from a sum within a rotary embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etastar.depth import CountedAs
from etastar.graph.node import Node, Operand

__all__ = ["Contraction", "CountedNode", "contract", "data_inputs", "members"]


class Frontier(NamedTuple):
    """Nearest counted ancestors, reached directly and through a mixing operation."""

    direct: int = 0
    mixed: int = 0

    @property
    def mask(self) -> int:
        """All of them."""
        return self.direct | self.mixed


_EMPTY = Frontier()

# The same values in another place or precision.
_COPIES = frozenset(
    f"aten.{name}.default" for name in ("_to_copy", "clone", "contiguous", "_unsafe_view")
)


def members(mask: int) -> Iterator[int]:
    """Positions of the bits of a mask, ascending.

    Args:
        mask: A non-negative integer.

    Yields:
        The positions.

    Example:
        >>> list(members(0b1010))
        [1, 3]
    """
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


_Sums = dict[int, tuple[Operand, ...]]  # what each n-ary addition sums, by its last node


def _is_transparent(node: Node) -> bool:
    """Passes one tensor on unchanged, so that a chain of sums is seen through it."""
    return (node.kind == "view" or node.op in _COPIES) and len(node.inputs) == 1


def _group_sums(nodes: Sequence[Node], outputs: Iterable[int]) -> _Sums:
    """Merge sums whose partial results have no other consumer into n-ary additions."""
    consumers = [0] * len(nodes)
    for node in nodes:
        for operand in node.operands:  # `v + v` consumes v twice, however it is bracketed
            for producer in operand.producers:
                consumers[producer] += 1
    for producer in outputs:
        consumers[producer] += 1

    sums: _Sums = {}
    for node in nodes:
        if node.addends:
            flat: list[Operand] = []
            for position in node.addends:
                inner = _inner_sum(nodes, node.operands[position], consumers)
                flat += (node.operands[position],) if inner is None else sums.pop(inner)
            sums[node.index] = tuple(flat)
    return sums


def _inner_sum(nodes: Sequence[Node], operand: Operand, consumers: list[int]) -> int | None:
    """The sum that an operand is, if nothing else consumes it."""
    while len(operand.producers) == 1 and consumers[operand.producers[0]] == 1:
        node = nodes[operand.producers[0]]
        if node.addends:
            return node.index
        if not _is_transparent(node):
            return None
        operand = next(o for o in node.operands if o.producers)
    return None


def _union(frontiers: Sequence[Frontier], operands: Iterable[Operand]) -> Frontier:
    direct = mixed = 0
    for operand in operands:
        for producer in operand.producers:
            direct |= frontiers[producer].direct
            mixed |= frontiers[producer].mixed
    return Frontier(direct, mixed)


class _Frontiers:
    """Frontiers of all nodes for one choice of sources."""

    def __init__(self, nodes: Sequence[Node], sources: Iterable[int], sums: _Sums) -> None:
        self.of: list[Frontier] = []
        self.counted: dict[int, int] = {}  # node index -> mask of its counted predecessors
        chosen = frozenset(sources)
        for node in nodes:
            self.of.append(self._frontier(node, chosen, sums))

    def _frontier(self, node: Node, sources: frozenset[int], sums: _Sums) -> Frontier:
        own = Frontier(1 << node.index)
        if node.kind == "input":
            return own if node.index in sources else _EMPTY
        reached = _union(self.of, node.operands)
        if not reached.mask:
            return _EMPTY
        if node.weight is not None or self._is_addition(node, sums):
            self.counted[node.index] = reached.mask
            return own
        return Frontier(0, reached.mask) if node.mixes else reached

    def _is_addition(self, node: Node, sums: _Sums) -> bool:
        """Whether the operands of an n-ary sum come from different places."""
        frontiers = {_union(self.of, (leaf,)) for leaf in sums.get(node.index, ())}
        return len(frontiers - {_EMPTY}) > 1


def data_inputs(nodes: Sequence[Node], inputs: dict[str, int]) -> tuple[str, ...]:
    """Inputs that some weight layer reads with nothing but inputs on its frontier [WU].

    That takes images, embeddings and token ids, and drops masks.

    Args:
        nodes: The nodes of a trace.
        inputs: Node of every input by name.

    Returns:
        Names of the inputs that count as data.
    """
    every_input = sum(1 << index for index in inputs.values())
    frontiers = _Frontiers(nodes, inputs.values(), sums={})
    data = 0
    for mask in frontiers.counted.values():
        if mask & ~every_input == 0:
            data |= mask
    return tuple(name for name, index in inputs.items() if data >> index & 1)


@dataclass(frozen=True, slots=True)
class CountedNode:
    """A weight layer or residual addition of the contracted graph.

    Attributes:
        node: Index in `Graph.nodes`.
        counted_as: What it counts as.
        predecessors: Nearest counted ancestors and sources, by node index.
        operand_predecessors: The same for each operand of an addition; () for a layer.
    """

    node: int
    counted_as: CountedAs
    predecessors: tuple[int, ...]
    operand_predecessors: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Contraction:
    """The graph contracted to its counted nodes.

    Attributes:
        sources: Node of every source by name.
        counted: Counted nodes in topological order.
        outputs: Nearest counted ancestors (or sources) of every output by name.
    """

    sources: dict[str, int]
    counted: tuple[CountedNode, ...]
    outputs: dict[str, tuple[int, ...]]


def contract(
    nodes: Sequence[Node], sources: dict[str, int], outputs: dict[str, tuple[int, ...]]
) -> Contraction:
    """Contract a graph to its weight layers and residual additions.

    Args:
        nodes: Its nodes, whether or not the kind of every sum is decided.
        sources: Node of every input that counts as data, by name.
        outputs: Nodes of every output by name.

    Returns:
        The contracted graph.

    Example:
        >>> import torch
        >>> from etastar.graph.tracing import trace
        >>> found = trace(torch.nn.Linear(2, 2), (torch.zeros(1, 2),), {}, fake=True)
        >>> contraction = contract(found.nodes, found.inputs, found.outputs)
        >>> [(c.counted_as, c.predecessors) for c in contraction.counted]
        [('weight layer', (0,))]

    Reference:
        [WU] arXiv 2602.07494, definition of effective depth.
    """
    sums = _group_sums(nodes, (i for made in outputs.values() for i in made))
    frontiers = _Frontiers(nodes, sources.values(), sums)
    counted = tuple(
        _counted_node(nodes[index], mask, sums, frontiers)
        for index, mask in frontiers.counted.items()
    )
    ends = {
        name: tuple(members(_union(frontiers.of, (Operand(made, (), ()),)).mask))
        for name, made in outputs.items()
    }
    return Contraction(dict(sources), counted, ends)


def _counted_node(node: Node, mask: int, sums: _Sums, frontiers: _Frontiers) -> CountedNode:
    predecessors = tuple(members(mask))
    if node.weight is not None:
        return CountedNode(node.index, "weight layer", predecessors)
    leaves = (_union(frontiers.of, (leaf,)).mask for leaf in sums[node.index])
    operands = tuple(tuple(members(leaf)) for leaf in leaves if leaf)
    return CountedNode(node.index, "residual addition", predecessors, operands)
