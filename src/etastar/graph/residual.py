"""Residual streams and their branches, found in the contracted graph.

An addition's *fork* is the latest node that all its operands come from. The operand that comes
from there through the fewest weight layers is the skip; the others are branches. Additions whose
fork is the addition before them belong to one *stream*. What scales the output of a branch is where
a branch multiplier can sit.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from etastar.graph.contraction import Contraction, CountedNode
from etastar.graph.node import Node

__all__ = ["Branch", "find_residuals", "output_scalers"]


@dataclass(frozen=True, slots=True)
class Branch:
    """What one residual addition adds to its stream.

    Attributes:
        addition: Node of the addition.
        stream: Number of the stream; None where no operand is a skip.
        stream_additions: K, the number of additions of that stream; 0 where there is none.
        index: Number of the addition within its stream.
        fan: Number of branches that are summed.
        length: Weight layers on the longest way through a branch.
        positions: Weight layers before each member, by node.
        last: Layers whose output the addition sums.
    """

    addition: int
    stream: int | None
    stream_additions: int
    index: int
    fan: int
    length: int
    positions: dict[int, int]
    last: frozenset[int]


class _Between:
    """Counted nodes between an addition and its fork, with the operands that reach each."""

    def __init__(
        self,
        addition: CountedNode,
        counted: dict[int, CountedNode],
        consumers: dict[int, set[int]],
    ) -> None:
        self.reached: dict[int, int] = {}
        self.fork: int | None = None
        self._all = (1 << len(addition.operand_predecessors)) - 1
        heap: list[int] = []
        for operand, nodes in enumerate(addition.operand_predecessors):
            self._push(heap, nodes, 1 << operand)
        inside = {addition.node}
        self.members: list[int] = []
        while heap:
            node = -heapq.heappop(heap)
            if self.reached[node] == self._all:
                self.fork = node
                break
            if consumers[node] <= inside:
                inside.add(node)
                self.members.append(node)
            if node in counted:
                self._push(heap, counted[node].predecessors, self.reached[node])
        self.members.reverse()

    def _push(self, heap: list[int], nodes: tuple[int, ...], operands: int) -> None:
        for node in nodes:
            if node not in self.reached:
                heapq.heappush(heap, -node)
            self.reached[node] = self.reached.get(node, 0) | operands


def _positions(
    members: list[int], counted: dict[int, CountedNode], *, longest: bool
) -> dict[int, int]:
    """Weight layers before each member, on the longest or the shortest way within the region."""
    before: dict[int, int] = {}
    choose = max if longest else min
    for node in members:
        if node in counted:
            before[node] = choose(_lengths(counted[node].predecessors, before, counted))
    return before


def _lengths(
    nodes: Sequence[int], before: dict[int, int], counted: dict[int, CountedNode]
) -> list[int]:
    """Weight layers up to and with each of the nodes; 0 for what lies outside of the region."""
    return [
        before[n] + (counted[n].counted_as == "weight layer") if n in before else 0 for n in nodes
    ]


def _skip_operand(
    addition: CountedNode, region: _Between, counted: dict[int, CountedNode]
) -> int | None:
    """The operand that comes from the fork through the fewest layers; None if none is alone."""
    if region.fork is None:
        return None
    before = _positions(region.members, counted, longest=False)
    lengths: list[int] = []
    for nodes in addition.operand_predecessors:
        if nodes == (region.fork,):
            return addition.operand_predecessors.index(nodes)
        lengths.append(min(_lengths(nodes, before, counted)))
    shortest = min(lengths)
    return lengths.index(shortest) if lengths.count(shortest) == 1 else None


def find_residuals(contraction: Contraction) -> tuple[Branch, ...]:
    """Find the residual streams of a network and the branches that add to them.

    Args:
        contraction: The contracted graph.

    Returns:
        One record per residual addition, in topological order.

    Example:
        >>> import torch
        >>> from etastar.graph.capture import capture_graph
        >>> class Block(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), Block(2, 2), Block(2, 2))
        >>> graph = capture_graph(model, torch.zeros(1, 2))
        >>> [branch.stream_additions for branch in find_residuals(graph.contraction)]
        [2, 2]

    Reference:
        [AM] arXiv 2510.04327, residual networks with K blocks.
    """
    counted = {node.node: node for node in contraction.counted}
    consumers: dict[int, set[int]] = defaultdict(set)
    for node in contraction.counted:
        for predecessor in node.predecessors:
            consumers[predecessor].add(node.node)
    streams: dict[int | None, int] = {}  # addition -> stream
    additions: Counter[int | None] = Counter()  # of each stream; none without one
    branches: list[Branch] = []
    for node in contraction.counted:
        if node.counted_as == "residual addition":
            region = _Between(node, counted, consumers)
            skip = _skip_operand(node, region, counted)
            stream = None
            if skip is not None:
                stream = streams[node.node] = streams.get(region.fork, len(additions))
                additions[stream] += 1
            index = max(0, additions[stream] - 1)
            branches.append(_branch(node, region, skip, counted, stream, index))
    return tuple(replace(b, stream_additions=additions[b.stream]) for b in branches)


def _branch(
    addition: CountedNode,
    region: _Between,
    skip: int | None,
    counted: dict[int, CountedNode],
    stream: int | None,
    index: int,
) -> Branch:
    only_skip = 0 if skip is None else 1 << skip
    members = [n for n in region.members if region.reached[n] != only_skip and n in counted]
    positions = _positions(members, counted, longest=True)
    layers = {n: p for n, p in positions.items() if counted[n].counted_as == "weight layer"}
    operands = [o for i, o in enumerate(addition.operand_predecessors) if i != skip]
    return Branch(
        addition=addition.node,
        stream=stream,
        stream_additions=0,  # not known before the last one is found
        index=index,
        fan=len(operands),
        length=1 + max(layers.values(), default=-1),
        positions=positions,
        last=frozenset(n for operand in operands for n in operand if n in layers),
    )


# f(m x) = m f(x) for every m > 0.
_HOMOGENEOUS = frozenset(
    "add sub neg native_dropout relu leaky_relu mean sum cat stack avg_pool1d avg_pool2d avg_pool3d"
    " _adaptive_avg_pool2d _adaptive_avg_pool3d max_pool2d_with_indices index_add slice_scatter"
    " constant_pad_nd index index_select _to_copy clone contiguous copy _unsafe_view".split()
)
_SCALING = frozenset(("mul", "div"))


def _name(node: Node) -> str:
    return node.op.split(".")[1].rstrip("_")


def output_scalers(
    nodes: Sequence[Node], branch: Branch, before: Sequence[frozenset[int]]
) -> frozenset[int]:
    """Nodes whose parameters, all multiplied by m > 0, multiply the branch's output by m.

    They are the last weight layers (with their biases), or the gains and shifts behind them.

    Args:
        nodes: The nodes of the graph.
        branch: A branch of it.
        before: Nearest counted nodes before each node.

    Returns:
        The nodes; none where an operation in between does not pass a factor on, or a norm without
        gain absorbs it.

    Reference:
        [TP6] arXiv 2310.02244 and [CP] arXiv 2505.01618 put a multiplier on each branch's output.
    """
    walk = _Walk(nodes, branch, before)
    scalers = walk.union(nodes[branch.addition].inputs)
    return scalers if scalers is not None else frozenset()


class _Walk:
    """Backwards from the addition to what scales the branch; None where a factor is lost."""

    def __init__(
        self, nodes: Sequence[Node], branch: Branch, before: Sequence[frozenset[int]]
    ) -> None:
        self.nodes = nodes
        self.branch = branch
        self.before = before
        self.known: dict[int, frozenset[int] | None] = {}

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
        is_layer = node.index in self.branch.last
        if is_layer or (self.before[node.index] & self.branch.last and _is_gain(node)):
            return frozenset((node.index,))
        if node.index in self.branch.positions:
            return None
        if not self.before[node.index] & self.branch.last:
            return frozenset()
        if _name(node) in _SCALING and len(node.inputs) > 1:
            return self._product(node)
        if node.kind == "norm" or not _passes_on(node):
            return None
        found = self.union(node.inputs)
        own = frozenset((node.index,) if node.parameters else ())
        return None if found is None else found | own

    def _product(self, node: Node) -> frozenset[int] | None:
        """A product scales with one factor, if the other one does not depend on what scales it."""
        factors = [o.producers for o in node.operands if o.producers]
        for number, producers in enumerate(factors[:1] if _name(node) == "div" else factors):
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


def _is_gain(node: Node) -> bool:
    """Multiplies by a parameter: an affine norm, a layer scale."""
    is_scaled = node.kind == "norm" or (_name(node) in _SCALING and len(node.inputs) == 1)
    return bool(node.parameters) and is_scaled


def _passes_on(node: Node) -> bool:
    return node.kind == "view" or _name(node) in _HOMOGENEOUS | _SCALING
