"""From executed operations to counted nodes: data inputs, residual additions, frontiers.

The *frontier* of a tensor is the set of its nearest counted ancestors (or sources). Frontiers are
held as bit masks over node indices, so that union and comparison are single integer operations.
A second mask holds what was reached through a mixing operation (pooling, Fourier transform,
attention), so that `x + pool(x)` is told from a sum within a rotary embedding. A third mask leaves
out what was reached through a multiplicative gate alone: that is on no way through a branch.

Two sums of different operands do not count: of embeddings of inputs (tokens, their types and
positions), and `pool(x) - x` where nothing but another sum with x reads it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import NamedTuple

from etastar.depth import CountedAs
from etastar.graph.addends import Sums, gating_operands, group_sums
from etastar.graph.node import Node, Operand


class Frontier(NamedTuple):
    """Nearest counted ancestors, reached directly, by mixing, and on a way that is no gate.

    `is_product`: whether two activations were multiplied since.
    """

    direct: int = 0
    mixed: int = 0
    ways: int = 0
    is_product: bool = False

    @property
    def mask(self) -> int:
        """All of them."""
        return self.direct | self.mixed


_EMPTY = Frontier()


def members(mask: int) -> Iterator[int]:
    """Positions of the bits of a mask, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _union(frontiers: Sequence[Frontier], operands: Iterable[Operand]) -> Frontier:
    direct = mixed = ways = 0
    is_product = False
    for operand in operands:
        for producer in operand.producers:
            direct |= frontiers[producer].direct
            mixed |= frontiers[producer].mixed
            ways |= frontiers[producer].ways
            is_product |= frontiers[producer].is_product
    return Frontier(direct, mixed, ways, is_product)


@dataclass(frozen=True, slots=True)
class CountedNode:
    """A weight layer or residual addition of the contracted graph.

    Attributes:
        node: Index in `Graph.nodes`.
        counted_as: What it counts as.
        predecessors: Nearest counted ancestors and sources, by node index.
        ways: Those of them that are reached on another way than through a gate.
        operand_predecessors: `predecessors` of each operand of an addition; () for a layer.
        operand_ways: `ways` of each operand of an addition; () for a layer.
        mixed: Operands of an addition that hold what was mixed, as pool(x), by number.
        products: Operands of an addition that hold a product of activations, by number.
    """

    node: int
    counted_as: CountedAs
    predecessors: tuple[int, ...]
    ways: tuple[int, ...]
    operand_predecessors: tuple[tuple[int, ...], ...] = ()
    operand_ways: tuple[tuple[int, ...], ...] = ()
    mixed: frozenset[int] = frozenset()
    products: frozenset[int] = frozenset()


def _counted_node(node: Node, reached: Frontier, operands: Sequence[Frontier]) -> CountedNode:
    return CountedNode(
        node.index,
        "residual addition" if operands else "weight layer",
        tuple(members(reached.mask)),
        tuple(members(reached.ways)),
        tuple(tuple(members(operand.mask)) for operand in operands),
        tuple(tuple(members(operand.ways)) for operand in operands),
        frozenset(i for i, operand in enumerate(operands) if operand.mixed),
        frozenset(i for i, o in enumerate(operands) if o.is_product or node.name == "lerp"),
    )


class _Frontiers:
    """Frontiers of all nodes for one choice of sources."""

    def __init__(
        self,
        nodes: Sequence[Node],
        sources: Iterable[int],
        sums: Sums,
        outer: Mapping[int, int],
        gates: Mapping[int, Operand],
    ) -> None:
        self.of: list[Frontier] = []
        self.counted: list[tuple[Node, Frontier, Sequence[Frontier]]] = []  # and of its operands
        self._nodes, self._sums, self._outer = nodes, sums, outer
        self._sources = frozenset(sources)
        self._gates = gates
        self._embedded = sum(1 << source for source in self._sources)
        self._looked_up = 0
        self.embeddings: list[int] = []  # masks of those that were summed
        for node in nodes:
            self.of.append(self._frontier(node))

    def _frontier(self, node: Node) -> Frontier:
        own = Frontier(1 << node.index, 0, 1 << node.index)
        if node.kind == "input":
            return own if node.index in self._sources else _EMPTY
        reached = _union(self.of, node.operands)
        if not reached.mask:
            return _EMPTY
        if node.name == "mul" and sum(bool(o.producers) for o in node.operands) > 1:
            reached = reached._replace(is_product=True)
        if gate := self._gates.get(node.index):
            ways = _union(self.of, (o for o in node.operands if o is not gate)).ways
            reached = reached._replace(ways=ways or reached.ways)
        operands = () if node.weight is not None else self._added(node)
        if node.weight is not None or operands:
            self.counted.append((node, reached, operands))
            self._note_embedding(node, reached)
            return own
        return reached._replace(direct=0, mixed=reached.mask) if node.mixes else reached

    def _note_embedding(self, node: Node, reached: Frontier) -> None:
        """Remember the first layers, and which of them look up a table."""
        if node.weight is not None and all(i in self._sources for i in members(reached.mask)):
            self._embedded |= 1 << node.index
            if node.weight.layer_type == "embedding":
                self._looked_up |= 1 << node.index

    def _added(self, node: Node) -> Sequence[Frontier]:
        """What the operands of an n-ary sum hold, if they come from different places; else ()."""
        found = [_union(self.of, (leaf,)) for leaf in self._sums.get(node.index, ())]
        operands = [operand for operand in found if operand.mask]
        if len({(operand.direct, operand.mixed) for operand in operands}) < 2:
            return ()
        if self._is_embedding(set(operands)):
            self.embeddings.append(_union(self.of, self._sums[node.index]).mask)
            return ()
        return () if self._is_within_mixing(node, operands) else operands

    def _is_embedding(self, leaves: set[Frontier]) -> bool:
        """A sum of embeddings of inputs; one of them may be no table, as that of patches."""
        others = [leaf for leaf in leaves if leaf.mask & ~self._looked_up]
        return len(others) < 2 and all(not leaf.mask & ~self._embedded for leaf in others)

    def _is_within_mixing(self, node: Node, leaves: Sequence[Frontier]) -> bool:
        """In `x + s (pool(x) - x)` the inner sum, of which all operands are made of x."""
        places = {leaf.mask for leaf in leaves}
        if node.index not in self._outer or len(places) > 1:
            return False
        beside = (
            _union(self.of, (leaf,)).mask
            for leaf in self._sums[self._outer[node.index]]
            if all(producer < node.index for producer in leaf.producers)
        )
        return bool(places & set(beside))


def data_inputs(nodes: Sequence[Node], inputs: dict[str, int]) -> tuple[str, ...]:
    """Inputs that some weight layer reads with nothing but inputs on its frontier [WU].

    That takes images, embeddings and token ids, and drops masks.
    """
    every = sum(1 << index for index in inputs.values())
    data = 0
    for _, reached, _ in _Frontiers(nodes, inputs.values(), {}, {}, {}).counted:
        # masks throughout: without sums, all blocks before a node are its nearest
        if reached.mask & ~every == 0:
            data |= reached.mask
    return tuple(name for name, index in inputs.items() if data >> index & 1)


@dataclass(frozen=True)
class Contraction:
    """The graph contracted to its counted nodes.

    Attributes:
        sources: Node of every source by name.
        counted: Counted nodes in topological order.
        outputs: Nearest counted ancestors (or sources) of every output by name.
        output_ways: Those of them that are reached on another way than through a gate.
        embeddings: Layers whose sum is the embedding of the inputs, for each such sum.
    """

    sources: dict[str, int]
    counted: tuple[CountedNode, ...]
    outputs: dict[str, tuple[int, ...]]
    output_ways: dict[str, tuple[int, ...]]
    embeddings: tuple[tuple[int, ...], ...] = ()


def contract(
    nodes: Sequence[Node], sources: dict[str, int], outputs: dict[str, tuple[int, ...]]
) -> Contraction:
    """A graph contracted to its weight layers and residual additions [WU].

    Args:
        nodes: Its nodes, whether or not the kind of every sum is decided.
        sources: Node of every input that counts as data, by name.
        outputs: Nodes of every output by name.
    """
    sums, outer = group_sums(nodes, (i for made in outputs.values() for i in made))
    frontiers = _Frontiers(nodes, sources.values(), sums, outer, gating_operands(nodes))
    reached = {
        name: _union(frontiers.of, (Operand(made, (), ()),)) for name, made in outputs.items()
    }
    return Contraction(
        dict(sources),
        tuple(_counted_node(*found) for found in frontiers.counted),
        {name: tuple(members(found.mask)) for name, found in reached.items()},
        {name: tuple(members(found.ways)) for name, found in reached.items()},
        tuple(tuple(members(mask)) for mask in frontiers.embeddings),
    )


def leading_to(
    counted: Sequence[CountedNode], ends: Iterable[int], *, through_gates: bool = True
) -> set[int]:
    """The ends, and what they are reached from; on a way that is no gate, if that is asked."""
    found = set(ends)
    for node in reversed(counted):
        if node.node in found:
            found.update(node.predecessors if through_gates else node.ways)
    return found


def held_before(
    contraction: Contraction, marked: Container[int], walls: Container[int] = ()
) -> dict[int, int]:
    """Marked nodes that reach each counted node and source, or are it, on ways without a wall.

    Each as a mask, as sets of a network that uses one layer often would grow with its square.
    """
    found: dict[int, int] = {}
    sources = ((source, ()) for source in contraction.sources.values())
    counted = ((n.node, () if n.node in walls else n.predecessors) for n in contraction.counted)
    for node, before in (*sources, *counted):
        found[node] = reduce(or_, (found[p] for p in before), (node in marked) << node)
    return found
