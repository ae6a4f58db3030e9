"""Residual streams, their branches, and the inputs that enter one on the way.

Additions whose carrier (see `forks`) is the addition before them belong to one *stream*. Streams
nest: an addition within a branch of another one is no addition of the other's stream. K, the number
of additions of a stream, counts those that add a branch, along the stream: where several copies of
it run side by side (hyper-connections), each branch counts once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from etastar.graph.contraction import Contraction, CountedNode, held_before, leading_to, members
from etastar.graph.forks import Fork
from etastar.graph.node import Node


@dataclass(frozen=True, slots=True)
class Branch:
    """What one residual addition adds to its stream.

    Attributes:
        addition: Node of the addition.
        stream: Number of the stream; None where no operand carries one.
        stream_additions: K, the number of additions of that stream; 0 where there is none.
        index: Number of the addition within its stream.
        fan: Number of branches that are summed; 0 where only an earlier state is mixed in.
        length: Weight layers on the longest way through a branch.
        positions: Fewest weight layers on a way from the fork to each member, by node.
        last: Layers whose output the addition sums, or a sum that the branch ends in.
        inner: Sums that the branch ends in.
        is_gated: Whether the stream itself is multiplied by a gate: `g x + (1 - g) f(x)`.
        is_projected: Whether the stream comes through a layer beside the branch.
        is_coupled: Whether it holds sums of another stream, which are read outside of it as well.
    """

    addition: int
    stream: int | None
    stream_additions: int
    index: int
    fan: int
    length: int
    positions: dict[int, int]
    last: frozenset[int]
    inner: frozenset[int] = frozenset()
    is_gated: bool = False
    is_projected: bool = False
    is_coupled: bool = False


def find_residuals(contraction: Contraction) -> tuple[Branch, ...]:
    """The branches that are added to residual streams [AM], one record per residual addition.

    They are in topological order: of nested ones, the inner first.

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
    """
    counted = {node.node: node for node in _with_one_embedding(contraction)}
    consumers: dict[int, set[int]] = defaultdict(set)
    for node in counted.values():
        for predecessor in node.predecessors:
            consumers[predecessor].add(node.node)
    origins: dict[int, int] = {}
    inside: set[int] = set()
    found: list[tuple[Branch, Fork]] = []
    for node in counted.values():
        if node.counted_as == "residual addition":
            fork = Fork(node, counted, consumers, origins, inside)
            branch = _branch(node, fork, counted)
            found.append((branch, fork))
            if fork.carrier is not None:
                inside.update(branch.positions)
                origins[node.node] = (
                    node.node if fork.is_projected else origins.get(fork.carrier, fork.carrier)
                )
    sums = {branch.addition for branch, fork in found if fork.carrier is None}
    return tuple(
        replace(b, is_coupled=any(consumers[n] - own for n in sums & b.positions.keys()))
        for b in _Streams(found, counted).branches()
        for own in [{*b.positions, b.addition}]
    )


def _with_one_embedding(contraction: Contraction) -> Iterable[CountedNode]:
    """The counted nodes, the latest of summed embeddings in place of all of them."""
    nodes = {node.node: node for node in contraction.counted}
    for group in contraction.embeddings:
        latest = group[-1]

        def one(found: tuple[int, ...], group: tuple[int, ...] = group) -> tuple[int, ...]:
            return tuple(n for n in found if n not in group[:-1]) if {*group} <= {*found} else found

        for node in nodes.values():
            nodes[node.node] = replace(
                node,
                predecessors=one(node.predecessors),
                ways=one(node.ways),
                operand_predecessors=tuple(map(one, node.operand_predecessors)),
                operand_ways=tuple(map(one, node.operand_ways)),
            )
        read = [n for layer in group if layer in nodes for n in nodes[layer].predecessors]
        if latest in nodes:
            before = tuple(sorted(set(read)))
            nodes[latest] = replace(nodes[latest], predecessors=before, ways=before)
    return nodes.values()


def _branch(addition: CountedNode, fork: Fork, counted: Mapping[int, CountedNode]) -> Branch:
    members = fork.members()
    shared = {n for i in fork.states for n in addition.operand_predecessors[i]}  # a gate
    ends = [n for i in fork.branches for n in addition.operand_ways[i] if n not in shared]
    inside, within = {*members}, [counted[n] for n in members]
    main = leading_to(within, inside.intersection(ends), through_gates=False)
    if not any(counted[n].counted_as == "weight layer" for n in main & inside):  # but a gate
        ends = [n for i in fork.branches for n in addition.operand_predecessors[i]]
        main = leading_to(within, inside.intersection(ends), through_gates=False)
    entries = shared | {n for n in (fork.node, fork.carrier) if n is not None}
    positions = _positions(members, counted, entries)
    longest = _positions(members, counted)
    is_layer = {n for n in members if counted[n].counted_as == "weight layer"}
    last, inner = _last(ends, inside, counted)
    return Branch(
        addition=addition.node,
        stream=None,  # not known before all were found
        stream_additions=0,
        index=0,
        fan=len(fork.branches),
        length=1 + max((longest[n] for n in main & is_layer), default=-1),
        positions=positions,
        last=last,
        inner=inner,
        is_gated=fork.is_gated,
        is_projected=fork.is_projected,
    )


def _positions(
    members: list[int], counted: Mapping[int, CountedNode], entries: Container[int] | None = None
) -> dict[int, int]:
    """Weight layers before each member on the longest way within the branch, gates left out.

    With the nodes at which the branch begins, on the shortest way from there: what comes from
    elsewhere (a condition, a memory) is no way.
    """
    before: dict[int, int] = {}
    for node in members:
        ways = counted[node].ways
        found = [before[n] + (counted[n].counted_as == "weight layer") for n in ways if n in before]
        if entries is None:
            before[node] = max(found, default=0)
        else:
            found += [0] * any(n in entries for n in ways)
            before[node] = min(found, default=0)
    return before


def _last(
    ends: Iterable[int], members: set[int], counted: Mapping[int, CountedNode]
) -> tuple[frozenset[int], frozenset[int]]:
    """Layers that the addition sums, also through sums within the branch; and those sums.

    A sum that holds something from outside (a residual stream within the branch) is no end.
    """
    layers, sums = set[int](), set[int]()
    for end in set(ends) & members:
        if counted[end].counted_as == "weight layer":
            layers.add(end)
            continue
        below = {n for ways in counted[end].operand_ways for n in ways}
        inner_layers, inner_sums = _last(below, members, counted)
        if below == {n for n in below if n in inner_layers | inner_sums}:
            layers |= inner_layers
            sums |= inner_sums | {end}
    return frozenset(layers), frozenset(sums)


class _Streams:
    """Numbers the streams, once the branches of all additions are known.

    Args:
        found: Every addition with its fork, in topological order.
        counted: Every counted node by index.
    """

    def __init__(
        self, found: list[tuple[Branch, Fork]], counted: Mapping[int, CountedNode]
    ) -> None:
        self._found, self._counted = found, counted
        self._level: dict[int, int] = {}  # innermost addition that a node is on a branch of
        for branch, fork in found:
            if fork.carrier is not None:
                for member in branch.positions:
                    self._level.setdefault(member, branch.addition)
        self._stream: dict[int, int] = {}  # of each addition
        self._number: dict[int, int] = {}  # of each addition, along its stream
        self._ends: dict[int, set[int]] = {}  # what each addition sums beside the stream
        keys: dict[tuple[int, int | None], int] = {}
        for branch, fork in found:
            if fork.carrier is not None:
                self._assign(branch, fork, keys)

    def _assign(self, branch: Branch, fork: Fork, keys: dict[tuple[int, int | None], int]) -> None:
        assert fork.carrier is not None
        level = self._level.get(branch.addition)
        goes_on = fork.carrier in self._stream and level == self._level.get(fork.carrier)
        if not goes_on and not branch.fan:
            return
        stream = (
            self._stream[fork.carrier]
            if goes_on
            else keys.setdefault((fork.carrier, level), len(keys))
        )
        operands = self._counted[branch.addition].operand_predecessors
        states = {fork.carrier, *(n for i in fork.states for n in operands[i])}
        before = [n for n in states if self._stream.get(n) == stream]
        ends = {n for i in fork.branches for n in operands[i]}
        is_new = bool(branch.fan) and not any(ends <= self._ends[n] for n in before)
        self._ends[branch.addition] = ends
        self._stream[branch.addition] = stream
        last = max((self._number[n] for n in before), default=0)
        self._number[branch.addition] = last + is_new

    def branches(self) -> tuple[Branch, ...]:
        """The branches with their streams, numbered in order."""
        additions: dict[int, int] = defaultdict(int)
        for addition, stream in self._stream.items():
            additions[stream] = max(additions[stream], self._number[addition])
        dropped = {
            self._stream[branch.addition]
            for branch, fork in self._found
            if branch.addition in self._stream
            and additions[self._stream[branch.addition]] == 1
            and self._is_part(branch, fork)
        }
        numbers = {s: i for i, s in enumerate(s for s in additions if s not in dropped)}
        return tuple(self._numbered(branch, numbers, additions) for branch, _ in self._found)

    def _is_part(self, branch: Branch, fork: Fork) -> bool:
        """A single sum within a branch that is no stream of its own.

        Ways side by side, as a layer and its adapter, or the terms of attention scores; or what the
        addition outside sums, as in `x + g (f(x) - x)`.
        """
        level = self._level.get(branch.addition)
        if level is None:
            return False
        is_sum = fork.is_projected or fork.is_mixed
        return is_sum or branch.addition in self._counted[level].predecessors

    def _numbered(
        self, branch: Branch, numbers: dict[int, int], additions: dict[int, int]
    ) -> Branch:
        stream = self._stream.get(branch.addition)
        if stream is None or stream not in numbers:
            return branch
        index = max(0, self._number[branch.addition] - 1)
        return replace(
            branch, stream=numbers[stream], stream_additions=additions[stream], index=index
        )


def conditions(nodes: Sequence[Node], contraction: Contraction) -> tuple[str, ...]:
    """Names of those sources that are no data, but conditions of the others; never all sources.

    The data go along a residual stream from its start. A condition (a time, a class, a prompt)
    enters it on the way, by gains (FiLM arXiv 1709.07871), shifts, gates (DiT arXiv 2212.09748),
    sums or attention within the branches, so that the shortest path from it is that through its
    last entry, however deep the network is.

    A stream starts at the skip of its first addition. The data are the sources that reach the start
    of a stream without passing through another stream: in `x + branch(x, t)` that is x alone. In a
    network without streams, and where several start one together, a condition is a source that
    enters again behind weight layers that it has passed already, while another one does not.

    Args:
        nodes: The nodes of a graph.
        contraction: Its counted nodes, from all inputs that may be data.
    """
    if len(contraction.sources) < 2:
        return ()
    every = contraction.sources.values()
    reach = held_before(contraction, every)
    skips = {n.node: skip for n in contraction.counted if (skip := _skip(n, reach)) is not None}
    starts = set(skips.values()) - set(skips)
    beside = held_before(contraction, every, walls=skips)
    data = frozenset(source for start in starts for source in members(beside[start]))
    data = data or frozenset(every)
    if len(data) > 1:
        single = (mask for start in starts if (mask := reach[start]).bit_count() == 1)
        alone = {source for mask in single for source in members(mask)}
        data = data - (_entering_again(nodes, data) - alone) or data
    return tuple(name for name, source in contraction.sources.items() if source not in data)


def disagreement(depths: Mapping[str, int], conditions: Sequence[str]) -> str:
    """What to know of a network whose depth depends on the input that one starts from.

    Example:
        >>> disagreement({"x": 34, "t": 4}, ["t"])
        'depth 34 from x; 4 from t, a condition: not data unless named by sources'
    """
    said = [f"{depth} from {name}" for name, depth in depths.items() if name not in conditions]
    beside = [f"{depth} from {name}" for name, depth in depths.items() if name in conditions]
    if beside:
        kind = "a condition" if len(beside) == 1 else "conditions"
        beside = [f"; {', '.join(beside)}, {kind}: not data unless named by sources"]
    elif len(said) > 1:
        beside = [": the shortest is taken; name the data by sources if it is another"]
    return f"depth {', '.join(said)}{''.join(beside)}"


def _skip(node: CountedNode, reach: Mapping[int, int]) -> int | None:
    """Where the skip of an addition comes from: one node, before layers of all other operands."""
    for operand in node.operand_predecessors:
        others = [o for o in node.operand_predecessors if o is not operand]
        if len(operand) == 1 and all(operand[0] not in o for o in others):
            held = reach[operand[0]]
            if all(any(not held & ~reach[p] and operand[0] < p for p in o) for o in others):
                return operand[0]
    return None


def _entering_again(nodes: Sequence[Node], sources: frozenset[int]) -> frozenset[int]:
    """Sources that meet what they, among others, have been made into by weight layers."""
    none: frozenset[int] = frozenset()
    held: list[frozenset[int]] = []  # sources within each node
    passed: list[frozenset[int]] = []  # those of them that met others, then a weight layer
    found = none
    for node in nodes:
        own = frozenset((node.index,)) & sources
        held.append(own.union(*(held[p] for p in node.inputs)))
        behind = none.union(*(passed[p] for p in node.inputs))
        for operand in node.operands:
            alone = none.union(*(held[p] for p in operand.producers))
            others = (p for o in node.operands if o is not operand for p in o.producers)
            if len(alone) == 1 and alone <= none.union(*(passed[p] for p in others)):
                found |= alone
        if node.weight is not None and len(held[-1]) > 1:
            behind |= held[-1]
        passed.append(behind)
    return found
