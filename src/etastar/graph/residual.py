"""Residual streams and their branches, found in the contracted graph.

An addition's *fork* is the latest node that all its operands come from. The operand that comes
from there through the fewest weight layers is the skip; the others are branches. Additions whose
fork is the addition before them belong to one *stream*.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

from etastar.graph.contraction import Contraction, CountedNode

__all__ = ["Branch", "Place", "Residual", "find_residuals"]


@dataclass(frozen=True, slots=True)
class Branch:
    """What one residual addition adds to its stream.

    Attributes:
        addition: Node of the addition.
        fork: Node that all operands come from; None for a sum of separate sources.
        stream: Number of the stream; None where no operand is a skip.
        index: Number of the addition within its stream.
        fan: Number of branches that are summed.
        length: Weight layers on the longest way through a branch.
        positions: Weight layers before each member, by node.
        last: Layers whose output the addition sums.
    """

    addition: int
    fork: int | None
    stream: int | None
    index: int
    fan: int
    length: int
    positions: dict[int, int]
    last: frozenset[int]


@dataclass(frozen=True, slots=True)
class Place:
    """Place of one counted node: its branch, the innermost one, and K of the stream."""

    branch: Branch
    additions: int


@dataclass(frozen=True)
class Residual:
    """All branches of a network.

    Attributes:
        branches: One per residual addition, in topological order.
        additions: K of each stream.
    """

    branches: tuple[Branch, ...]
    additions: tuple[int, ...]

    def places(self) -> dict[int, Place]:
        """Place of every counted node that lies on a branch, by node; inner branches first."""
        found: dict[int, Place] = {}
        for branch in self.branches:
            k = 0 if branch.stream is None else self.additions[branch.stream]
            for node in branch.positions:
                found.setdefault(node, Place(branch, k))
        return found


class _Region:
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
        if node not in counted:
            continue
        steps = [
            before[p] + (counted[p].counted_as == "weight layer") if p in before else 0
            for p in counted[node].predecessors
        ]
        before[node] = choose(steps)
    return before


def _skip_operand(
    addition: CountedNode, region: _Region, counted: dict[int, CountedNode]
) -> int | None:
    """The operand that comes from the fork through the fewest layers; None if none is alone."""
    if region.fork is None:
        return None
    before = _positions(region.members, counted, longest=False)
    lengths: list[int] = []
    for nodes in addition.operand_predecessors:
        if nodes == (region.fork,):
            return addition.operand_predecessors.index(nodes)
        ways = [
            before[n] + (counted[n].counted_as == "weight layer") if n in before else 0
            for n in nodes
        ]
        lengths.append(min(ways))
    shortest = min(lengths)
    return lengths.index(shortest) if lengths.count(shortest) == 1 else None


def find_residuals(contraction: Contraction) -> Residual:
    """Find the residual streams of a network and the branches that add to them.

    Args:
        contraction: The contracted graph.

    Returns:
        One branch record per residual addition, and K of every stream.

    Example:
        >>> import torch
        >>> from etastar.graph.capture import capture_graph
        >>> from etastar.graph.contraction import contract
        >>> class Block(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x)
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), Block(2, 2), Block(2, 2))
        >>> find_residuals(contract(capture_graph(model, torch.zeros(1, 2)))).additions
        (2,)

    Reference:
        [AM] arXiv 2510.04327, residual networks with K blocks.
    """
    counted = {node.node: node for node in contraction.counted}
    consumers: dict[int, set[int]] = defaultdict(set)
    for node in contraction.counted:
        for predecessor in node.predecessors:
            consumers[predecessor].add(node.node)
    streams: dict[int, int] = {}  # addition -> stream
    additions: list[int] = []
    branches: list[Branch] = []
    for node in contraction.counted:
        if node.counted_as == "residual addition":
            region = _Region(node, counted, consumers)
            skip = _skip_operand(node, region, counted)
            if skip is not None:
                stream = streams.get(region.fork if region.fork is not None else -1)
                if stream is None:
                    stream = len(additions)
                    additions.append(0)
                streams[node.node] = stream
                additions[stream] += 1
            branches.append(_branch(node, region, skip, counted, streams, additions))
    return Residual(tuple(branches), tuple(additions))


def _branch(
    addition: CountedNode,
    region: _Region,
    skip: int | None,
    counted: dict[int, CountedNode],
    streams: dict[int, int],
    additions: list[int],
) -> Branch:
    only_skip = 0 if skip is None else 1 << skip
    members = [n for n in region.members if region.reached[n] != only_skip and n in counted]
    positions = _positions(members, counted, longest=True)
    layers = {n: p for n, p in positions.items() if counted[n].counted_as == "weight layer"}
    operands = [o for i, o in enumerate(addition.operand_predecessors) if i != skip]
    stream = streams.get(addition.node)
    return Branch(
        addition=addition.node,
        fork=region.fork,
        stream=stream,
        index=0 if stream is None else additions[stream] - 1,
        fan=len(operands),
        length=1 + max(layers.values(), default=-1),
        positions=positions,
        last=frozenset(n for operand in operands for n in operand if n in layers),
    )
