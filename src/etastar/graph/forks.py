"""Where the operands of an addition come from: its fork, what carries the stream, its branches.

The *fork* is the latest node that all operands come from, and one of them alone. How this works:
the nodes before the addition are visited from the latest to the earliest, each with the operands
that it reaches. Once a node is reached from all operands, the nodes still to be visited are those
that by-pass it; an operand that none of them reaches comes from that node alone. So the gate of
`g x + (1 - g) f(x)`, which is reached from both, is no fork: x by-passes it on both operands.

The *carrier* is the operand that is the stream before the addition:

- one that comes from the fork without a weight layer. `x + mu x0` has two such operands: the later
  state carries, the other one is an earlier state *mixed in*, which is no branch; of `x + pool(x)`
  the operand that was not pooled carries;
- else, if all that leads away from the fork leads to the addition, the one with fewest weight
  layers: a projected shortcut;
- where no single node is the fork, but several together (a concatenation that a block reads), the
  same from these;
- else the only operand that is a stream, as in `x + v(tokens)`, or that others come from.

An addition whose fork lies within a branch that it is not part of sums two branches: no carrier.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping

from etastar.graph.contraction import CountedNode


class Fork:
    """One addition seen from its operands.

    Args:
        addition: The addition.
        counted: Every counted node by index.
        consumers: Counted nodes that read each node.
        origins: Where the stream of each addition before begins, along operands without a layer.
        inside: Nodes of the branches found before.

    Attributes:
        node: The fork, if it is a single node.
        carrier: Node that carries the stream; None where no operand does.
        states: Operands that are the stream, now or earlier, by number.
        is_projected: Whether the carrier comes through weight layers.
        is_mixed: Whether it comes through what mixes, as pooling.
        is_gated: Whether the carrier is multiplied by a gate.
    """

    def __init__(
        self,
        addition: CountedNode,
        counted: Mapping[int, CountedNode],
        consumers: Mapping[int, set[int]],
        origins: Mapping[int, int],
        inside: Container[int],
    ) -> None:
        self.carrier: int | None = None
        self.states: frozenset[int] = frozenset()
        self.is_projected = self.is_mixed = self.is_gated = False
        self._addition, self._counted, self._consumers = addition, counted, consumers
        self._origins = origins
        self._reached: dict[int, int] = {}
        self._closed: list[int] = []  # nodes that lead to the addition alone, latest first
        self._forks: frozenset[int] = frozenset()
        self._after: dict[int, int] = {}  # weight layers between the fork and what follows it
        self._joint: frozenset[int] = frozenset()  # the latest nodes that together are a fork
        self._beyond = 0  # nodes in `_closed` that are after them
        self.node, alone = self._search()
        single = frozenset(() if self.node is None else (self.node,))
        # the nodes of a joint fork follow the single one: a shortcut is projected from them
        for forks, shortcut in ((single, False), (self._joint, True), (single, True)):
            if self.carrier is None and forks and not any(n in inside for n in forks):
                self._carried_from(forks, alone if forks == single else 0, shortcut=shortcut)
        if self.carrier is None:
            self._carried_by_one(inside)

    def _search(self) -> tuple[int | None, int]:
        """The fork, and the operands that come from it alone, as a mask."""
        everything = (1 << len(self._addition.operand_predecessors)) - 1
        heap: list[int] = []
        for operand, nodes in enumerate(self._addition.operand_predecessors):
            self._push(heap, nodes, 1 << operand)
        inside = {self._addition.node}
        while heap:
            if not self._joint and all(self._reached[-n] == everything for n in heap):
                self._joint, self._beyond = frozenset(-n for n in heap), len(self._closed)
            node = -heapq.heappop(heap)
            if self._reached[node] == everything:
                by_passed = 0
                for waiting in heap:
                    by_passed |= self._reached[-waiting]
                if by_passed != everything:
                    return node, everything & ~by_passed
            if self._consumers[node] <= inside:
                inside.add(node)
                self._closed.append(node)
            if node in self._counted:
                self._push(heap, self._counted[node].predecessors, self._reached[node])
        return None, 0

    def _push(self, heap: list[int], nodes: tuple[int, ...], operands: int) -> None:
        for node in nodes:
            if node not in self._reached:
                heapq.heappush(heap, -node)
            self._reached[node] = self._reached.get(node, 0) | operands

    def _measure(self, forks: frozenset[int]) -> None:
        """Fewest weight layers from the fork to every node after it, gates left out."""
        self._forks = forks
        self._after = dict.fromkeys(forks, 0)
        for node in sorted(n for n in self._reached if n > max(forks)):
            before = self._counted.get(node)
            if before is not None and (reach := self._fewest(before.predecessors)) is not None:
                on_ways = self._fewest(before.ways)
                is_layer = before.counted_as == "weight layer"
                self._after[node] = (reach if on_ways is None else on_ways) + is_layer

    def _fewest(self, nodes: tuple[int, ...]) -> int | None:
        return min((self._after[n] for n in nodes if n in self._after), default=None)

    def _carried_from(self, forks: frozenset[int], alone: int, *, shortcut: bool) -> None:
        self._measure(forks)
        fork = max(forks)
        every = self._addition.operand_predecessors
        lengths = [
            self._fewest(ways) if self._fewest(ways) is not None else self._fewest(nodes)
            for ways, nodes in zip(self._addition.operand_ways, every, strict=True)
        ]
        free = [i for i, length in enumerate(lengths) if length == 0]
        origin = self._origins.get(fork, fork)
        clean = self._unpooled([i for i in free if self._is_state(every[i], origin)])
        if clean:
            latest = max(every[i][-1] for i in clean)
            self.is_gated = any(self._holds_state(every[i], fork) for i in free if i not in clean)
            self._carry(latest, clean)
        elif len(free) == 1 and alone >> free[0] & 1 and free[0] in self._addition.products:
            self.is_gated = True
            self._carry(fork, free)
        elif shortcut and not free and self._is_closed():
            fewest = min(length for length in lengths if length is not None)
            nearest = [i for i, length in enumerate(lengths) if length == fewest]
            if len(nearest) == 1:
                self.is_projected = True
                self._carry(fork, nearest)

    def _is_state(self, nodes: tuple[int, ...], origin: int) -> bool:
        """Whether they are the fork, or one state of the stream that the fork is one of."""
        is_one = len(nodes) == 1 and self._origins.get(*nodes, *nodes) == origin
        return is_one or self._forks == {*nodes}

    def _unpooled(self, operands: list[int]) -> list[int]:
        """The operands without those that were pooled, where the same node is there as it is."""
        every, mixed = self._addition.operand_predecessors, self._addition.mixed
        plain = {every[i] for i in operands if i not in mixed}
        pooled = [i for i in operands if i in mixed]
        return [i for i in operands if i not in mixed or (every[i] not in plain and i == pooled[0])]

    def _carry(self, node: int, operands: list[int]) -> None:
        self.carrier, self.states = node, frozenset(operands)
        self.is_mixed = self.states <= self._addition.mixed

    def _holds_state(self, nodes: tuple[int, ...], fork: int) -> bool:
        """Whether a sum with the stream is multiplied by a gate: `x + g (f(x) - x)`."""
        sums = [n for n in nodes if n != fork and n in self._origins]
        return len(nodes) > 1 and any(self._after.get(n) == 0 for n in sums)

    def _is_closed(self) -> bool:
        """Whether what leads away from the fork leads to the addition alone."""
        between = self._after.keys() - self._forks
        return all(self._consumers[n] <= between | {self._addition.node} for n in between)

    def _carried_by_one(self, inside: Container[int]) -> None:
        """Without a fork of all operands: the only stream, or the only one that others read."""
        every = self._addition.operand_predecessors
        single = [i for i, nodes in enumerate(every) if len(nodes) == 1 and nodes[0] not in inside]
        streams = [i for i in single if every[i][0] in self._origins]
        read = [i for i in single if self._reached[every[i][0]] != 1 << i]
        for found in (streams, read):
            if len(found) == 1 and self.carrier is None:
                self._carry(every[found[0]][0], found)

    @property
    def branches(self) -> tuple[int, ...]:
        """Operands that are branches, by number; without a carrier, all."""
        operands = range(len(self._addition.operand_predecessors))
        return tuple(i for i in operands if i not in self.states)

    def members(self) -> list[int]:
        """Counted nodes of the branches, ascending: what lies between the fork and the addition.

        What comes from elsewhere (a condition, a memory) is a member if nothing else reads it.
        """
        is_way = {i for i in self.states if len(self._addition.operand_predecessors[i]) == 1}
        states = sum(1 << state for state in is_way)  # of g x, what is no way of x is the gate's
        is_joint = self.carrier is not None and self._forks == self._joint
        found = set(self._closed[: self._beyond] if is_joint else self._closed)
        if self.carrier is not None:
            found.update(self._after.keys() - self._forks)
        return sorted(n for n in found if n in self._counted and not self._reached[n] & states)
