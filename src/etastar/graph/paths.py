"""Paths of the contracted graph: statistics, on exact integers, and what lies on one twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import comb, prod

from etastar.depth import CountedAs
from etastar.graph.contraction import Contraction, CountedNode, members
from etastar.graph.node import Node
from etastar.graph.strided import Region

__all__ = [
    "LAYERS_ALONE",
    "nodes_on_paths",
    "path_statistics",
    "reused_parameters",
    "shortest_path",
]

Moments = tuple[int, int, int, int]
LAYERS_ALONE: tuple[CountedAs, ...] = ("weight layer",)
_BOTH: tuple[CountedAs, ...] = ("weight layer", "residual addition")
_NO_PATHS: Moments = (0, 0, 0, 0)
_ONE_PATH: Moments = (1, 0, 0, 0)


def _sum(parts: Iterable[Moments]) -> Moments:
    a = b = c = d = 0
    for part in parts:
        a, b, c, d = a + part[0], b + part[1], c + part[2], d + part[3]
    return a, b, c, d


def _lengthened(moments: Moments) -> Moments:
    """Moments of the same paths, each one node longer: N_k = sum_j C(k, j) S_j."""
    return tuple(  # type: ignore[return-value]
        sum(comb(k, j) * moments[j] for j in range(k + 1)) for k in range(4)
    )


class _Paths:
    """Paths that end between nodes that add to their length: those they may come from, and sums.

    Sums of disjoint sets of such nodes add up; where two sets share one, the sum is taken anew over
    the union, so that each sequence of nodes is counted once.

    Args:
        kinds: What adds to the length of a path.
    """

    def __init__(self, kinds: Collection[CountedAs]) -> None:
        self.ending: dict[int, Moments] = {}
        self._kinds = kinds
        self._between: dict[int, tuple[int, Moments, int]] = {}

    def start(self, source: int) -> None:
        """Add a source: one path of length 0."""
        self.ending[source] = _ONE_PATH
        self._between[source] = (1 << source, _ONE_PATH, 0)

    def union(self, predecessors: Iterable[int]) -> tuple[int, Moments, int]:
        """Nodes before this point as a mask, moments of the paths through them, longest of them."""
        mask, moments, longest = 0, _NO_PATHS, 0
        for predecessor in predecessors:
            other, more, reach = self._between[predecessor]
            if mask & other:
                mask |= other
                moments = _sum(self.ending[node] for node in members(mask))
            else:
                mask, moments = mask | other, _sum((moments, more))
            longest = max(longest, reach)
        return mask, moments, longest

    def add(self, node: CountedNode) -> None:
        """Add a counted node; one of another kind has length 0."""
        mask, moments, longest = self.union(node.predecessors)
        if node.counted_as not in self._kinds:
            self._between[node.node] = (mask, moments, longest)
            return
        self.ending[node.node] = moments = _lengthened(moments)
        self._between[node.node] = (1 << node.node, moments, longest + 1)


def path_statistics(
    contraction: Contraction,
    outputs: Iterable[str],
    kinds: Collection[CountedAs] = _BOTH,
) -> tuple[int, Moments]:
    """Statistics over all distinct sequences of counted nodes from a source to an output.

    With S_j(v) the sum of N_j(u) over the counted predecessors u of v,
    N_k(v) = sum_j C(k, j) S_j(v).

    Args:
        contraction: The contracted graph.
        outputs: Names of the outputs that paths end at.
        kinds: What adds to the length of a path; sequences of other nodes are not told apart.

    Returns:
        Length of a longest path, 0 if there is no path; and the moments of the lengths,
        M_k = sum over paths of length^k, k = 0 to 3.

    Reference:
        [WU] arXiv 2602.07494 (both kinds), [CH] arXiv 2402.17440 (path sums over layers).
    """
    paths = _Paths(kinds)
    for source in contraction.sources.values():
        paths.start(source)
    for node in contraction.counted:
        paths.add(node)
    ends = [paths.union(contraction.outputs[name]) for name in outputs]
    return max(longest for *_, longest in ends), _sum(moments for _, moments, _ in ends)


def shortest_path(contraction: Contraction, outputs: Iterable[str]) -> tuple[int, ...]:
    """Nodes of one shortest path, in order; of equals, the one through the earliest nodes.

    Args:
        contraction: The contracted graph.
        outputs: Names of the outputs that the path may end at.

    Returns:
        Indices of its counted nodes in `Graph.nodes`; () if there is no path.
    """
    length = dict.fromkeys(contraction.sources.values(), 0)
    before: dict[int, int] = {}
    for node in contraction.counted:
        nearest = min(node.predecessors, key=lambda p: (length[p], p))
        before[node.node], length[node.node] = nearest, length[nearest] + 1
    ends = [end for name in outputs for end in contraction.outputs[name]]
    if not ends:
        return ()
    path = [min(ends, key=lambda end: (length[end], end))]
    while path[-1] in before:
        path.append(before[path[-1]])
    return tuple(reversed(path[:-1]))


def nodes_on_paths(contraction: Contraction, outputs: Iterable[str]) -> set[int]:
    """Counted nodes from which an output is reached (all are reached from a source).

    Args:
        contraction: The contracted graph.
        outputs: Names of the outputs that paths end at.

    Returns:
        Their indices in `Graph.nodes`.
    """
    found = {end for name in outputs for end in contraction.outputs[name]}
    for node in reversed(contraction.counted):
        if node.node in found:
            found.update(node.predecessors)
    return found


def _uses(nodes: Sequence[Node], contraction: Contraction) -> dict[str, list[int]]:
    """Counted weight layers that use each parameter, in the order of execution."""
    uses: dict[str, list[int]] = defaultdict(list)
    for counted in contraction.counted:
        weight = nodes[counted.node].weight
        for name in weight.parameters if weight is not None else ():
            uses[name].append(counted.node)
    return uses


def _ties(nodes: Sequence[Node], used: Iterable[int]) -> bool:
    """Whether a parameter serves both as a table that is looked up and as a projection."""
    types = {weight.layer_type for n in used if (weight := nodes[n].weight) is not None}
    return len(types) > 1 and "embedding" in types


def reused_parameters(
    nodes: Sequence[Node], contraction: Contraction
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    """Parameters that are tied, recurrent or stacked, in the order of first use.

    Args:
        nodes: The nodes of the graph.
        contraction: The counted nodes.

    Returns:
        Names of those that serve both as a table that is looked up and as a projection; and of
        those that two weight layers on one path use, such ties apart. A recurrent module (LSTM,
        GRU) reuses its weights at every step within its one node. And the number of layers whose
        weights are slices of one parameter, that share nothing, for those that are not recurrent.

    Reference:
        [WU] arXiv 2602.07494: the law is stated for non-recurrent networks.
    """
    uses = _uses(nodes, contraction)
    reused = {n for used in uses.values() if len(used) > 1 for n in used}
    ancestors = _ancestors(contraction, reused)
    tied = tuple(name for name, used in uses.items() if _ties(nodes, used))
    parts = {name: _parts(nodes, name, used) for name, used in uses.items()}
    recurrent = tuple(
        name for name, used in uses.items() if _is_recurrent(nodes, used, ancestors, parts[name])
    )
    stacked = {}
    for name in (name for name in uses if name not in recurrent):
        own = _weights_of_their_own(nodes, parts[name])
        if any(_pairs_on_a_path(list(own), ancestors)):
            stacked[name] = len(set(own.values()))
    return tied, recurrent, stacked


def _parts(nodes: Sequence[Node], name: str, used: list[int]) -> dict[int, Region]:
    """The slice of a parameter that each weight layer uses; without those that use all of it."""
    found: dict[int, Region] = {}
    for node in used:
        weight = nodes[node].weight
        assert weight is not None
        own = [region for n, region in nodes[node].operands[weight.operand].parts if n == name]
        if len(own) == 1:
            found[node] = own[0]
    return found


def _ancestors(contraction: Contraction, wanted: set[int]) -> dict[int, int]:
    """For each counted node, which of the `wanted` nodes lie before it, as a mask."""
    before: dict[int, int] = dict.fromkeys(contraction.sources.values(), 0)
    for node in contraction.counted if wanted else ():
        mask = 0
        for predecessor in node.predecessors:
            mask |= before[predecessor]
            if predecessor in wanted:
                mask |= 1 << predecessor
        before[node.node] = mask
    return before


def _weights_of_their_own(nodes: Sequence[Node], parts: Mapping[int, Region]) -> dict[int, Region]:
    """The slices that layers use as they are, not what learned queries made of them."""
    held = {n: w.operand for n in parts if (w := nodes[n].weight) is not None}
    shapes = {n: nodes[n].operands[operand].shape for n, operand in held.items()}
    return {
        n: part
        for n, part in parts.items()
        if prod(part.shape) == prod(shapes[n]) or Counter(part.shape) <= Counter(shapes[n])
    }


def _pairs_on_a_path(used: list[int], ancestors: dict[int, int]) -> Iterator[tuple[int, int]]:
    for i, earlier in enumerate(used):
        for later in used[i + 1 :]:
            if ancestors[later] >> earlier & 1:
                yield earlier, later


def _is_recurrent(
    nodes: Sequence[Node], used: list[int], ancestors: dict[int, int], parts: dict[int, Region]
) -> bool:
    weights = (nodes[n].weight for n in used)
    return any(w is not None and w.layer_type == "recurrent" for w in weights) or any(
        not _ties(nodes, pair) and _share(*(parts.get(node) for node in pair))
        for pair in _pairs_on_a_path(used, ancestors)
    )


def _share(one: Region | None, other: Region | None) -> bool:
    """Whether two uses of a parameter have elements in common."""
    return one is None or other is None or one.overlaps(other)
