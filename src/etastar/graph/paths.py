"""Paths of the contracted graph: exact statistics, and what lies on one twice or on none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from math import comb

from etastar.depth import CountedAs
from etastar.formatting import name_pattern, shorten_middle
from etastar.graph.contraction import Contraction, CountedNode, held_before, leading_to, members
from etastar.graph.node import Node, Region, WeightUse
from etastar.graph.residual import Branch

Moments = tuple[int, int, int, int]
LAYERS_ALONE: tuple[CountedAs, ...] = ("weight layer",)
_BOTH: tuple[CountedAs, ...] = ("weight layer", "residual addition")
_NAMES = 60  # characters
_OF_PYTORCH = frozenset(("aten", "prims", "recurrent"))
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


def path_statistics(
    contraction: Contraction, outputs: Iterable[str], kinds: Collection[CountedAs] = _BOTH
) -> tuple[int, Moments]:
    """Statistics over all distinct sequences of counted nodes from a source to one of the outputs.

    With S_j(v) the sum of N_j(u) over the counted predecessors u of v,
    N_k(v) = sum_j C(k, j) S_j(v). What is not of the `kinds` adds nothing to the length of a path,
    and sequences of it are not told apart: it passes on the set of nodes of the `kinds` before it.
    Sums over disjoint such sets add up; where two share a node, the sum is taken anew over their
    union, so that each sequence of nodes is counted once.

    Returns:
        Length of a longest path, 0 if there is no path; and the moments of the lengths,
        M_k = sum over paths of length^k, k = 0 to 3.

    Reference:
        [WU] arXiv 2602.07494 (both kinds), [CH] arXiv 2402.17440 (path sums over layers).
    """
    sources = contraction.sources.values()
    ending = dict.fromkeys(sources, _ONE_PATH)  # of paths that end in a node of the kinds
    between = {source: (1 << source, _ONE_PATH, 0) for source in sources}

    def union(predecessors: Iterable[int]) -> tuple[int, Moments, int]:
        """Nodes before this point as a mask, moments of the paths through them, longest of them."""
        mask, moments, longest = 0, _NO_PATHS, 0
        for predecessor in predecessors:
            other, more, reach = between[predecessor]
            if mask & other:
                mask |= other
                moments = _sum(ending[node] for node in members(mask))
            else:
                mask, moments = mask | other, _sum((moments, more))
            longest = max(longest, reach)
        return mask, moments, longest

    for node in contraction.counted:
        mask, moments, longest = union(node.predecessors)
        if node.counted_as in kinds:
            ending[node.node] = moments = _lengthened(moments)
            mask, longest = 1 << node.node, longest + 1
        between[node.node] = (mask, moments, longest)
    ends = [union(contraction.outputs[name]) for name in outputs]
    return max(longest for *_, longest in ends), _sum(moments for _, moments, _ in ends)


def shortest_path(contraction: Contraction, outputs: Iterable[str]) -> tuple[int, ...]:
    """Counted nodes of a shortest path to one of the outputs, in order; () if there is no path.

    Of equals, it is the one through the earliest nodes.
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


def reused_parameters(
    nodes: Sequence[Node], contraction: Contraction
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    """Parameters that are tied, recurrent or stacked, in the order of first use.

    Names of those that serve both as a table that is looked up and as a projection; and of those
    that two weight layers on one path use, such ties apart: the law is stated for non-recurrent
    networks [WU]. A recurrent module (LSTM, GRU) reuses its weights at every step within its one
    node. And the number of layers whose weights are slices of one parameter, that share nothing,
    for those that are not recurrent.
    """
    uses: dict[str, dict[int, WeightUse]] = defaultdict(dict)  # by layer, in order of execution
    parts: dict[str, dict[int, Region]] = defaultdict(dict)  # the slice that each of them uses
    for node in (nodes[counted.node] for counted in contraction.counted):
        if (weight := node.weight) is not None:
            for name in weight.parameters:
                uses[name][node.index] = weight
                held = [part for n, part in node.operands[weight.operand].parts if n == name]
                if len(held) == 1:
                    parts[name][node.index] = held[0]
    again = {n for used in uses.values() if len(used) > 1 for n in used}
    before = held_before(contraction, again) if again else {}

    def on_a_path(used: Iterable[int]) -> Iterator[tuple[int, int]]:
        return ((a, b) for a, b in combinations(used, 2) if before[b] >> a & 1)

    def is_again(used: Mapping[int, WeightUse], a: int, b: int, held: Mapping[int, Region]) -> bool:
        are_slices = a in held and b in held
        return not _ties((used[a], used[b])) and not (are_slices and not held[a].overlaps(held[b]))

    recurrent, stacked = list[str](), dict[str, int]()
    for name, used in uses.items():
        is_module = any(weight.layer_type == "recurrent" for weight in used.values())
        if is_module or any(is_again(used, *pair, parts[name]) for pair in on_a_path(used)):
            recurrent.append(name)
        else:  # slices as they are, not what learned queries made of them
            own = [n for n in parts[name] if not nodes[n].operands[used[n].operand].weights]
            if any(on_a_path(own)):
                stacked[name] = len({parts[name][n] for n in own})
    tied = tuple(name for name, used in uses.items() if _ties(used.values()))
    return tied, tuple(recurrent), stacked


def _ties(used: Iterable[WeightUse]) -> bool:
    """Whether a parameter serves both as a table that is looked up and as a projection."""
    types = {weight.layer_type for weight in used}
    return len(types) > 1 and "embedding" in types


def bypassed_layers(
    contraction: Contraction,
    outputs: Sequence[str],
    path: Sequence[int],
    branches: Sequence[Branch],
) -> dict[int, bool]:
    """Weight layers that the shortest path by-passes, and whether through a sum.

    Along a residual stream the shortest path takes the additions and leaves the branches out, which
    is what effective depth means. It *by-passes* a layer where a longer way, on which the layer
    lies, leaves the path and comes back to it past more counted nodes than the path has there, and
    the layer is on no branch of an addition of the path, or in a stream within that branch: skips
    that are concatenated (DenseNet, U-Net), an earlier state that is mixed in again (`x + mu x0`),
    a skip over all blocks. How this works: of every node, the last node of the path before it and
    the longest way from there; backwards likewise.

    Args:
        contraction: The contracted graph.
        outputs: Names of the outputs that the path may end at.
        path: Counted nodes of a shortest path, in order.
        branches: The branches of the additions.

    Returns:
        Their nodes, in order; layers of gates are not among them. True where the way on which the
        layer lies comes back to the path as another operand of an addition (an earlier state that
        is mixed in), not beside it in one tensor (a concatenation).
    """
    counted = {node.node: node for node in contraction.counted}
    sources = contraction.sources.values()
    ends = {node for name in outputs for node in contraction.outputs[name]}
    first = (set(counted[path[0]].predecessors) if path else ends).intersection(sources)
    places = {node: place for place, node in enumerate(path, start=1)}
    after: dict[int, list[int]] = defaultdict(list)
    for node in contraction.counted:
        for predecessor in node.predecessors:
            after[predecessor].append(node.node)
    forward = _reach([(n, c.predecessors) for n, c in counted.items()], first, 0, places, max)
    back = [(n, after[n]) for n in reversed(counted)]
    backward = _reach(back, ends, len(path) + 1, places, min)
    ways = (node for name in outputs for node in contraction.output_ways[name])
    beside = leading_to(contraction.counted, ways, through_gates=False) - places.keys()
    beside = (beside & forward.keys() & backward.keys()) - _on_branches(branches, places)
    sums = {place for n, place in places.items() if _sums_alone(counted[n], path, place, first)}
    return {
        n: backward[n][0] in sums
        for n, node in counted.items()
        if n in beside
        and node.counted_as == "weight layer"
        and forward[n][1] + backward[n][1] > backward[n][0] - forward[n][0]  # longer than the path
    }


def _sums_alone(node: CountedNode, path: Sequence[int], place: int, first: set[int]) -> bool:
    """Whether it is an addition, with operands that hold nothing but the path before it."""
    before = {path[place - 2]} if place > 1 else first
    return any(before.issuperset(operand) for operand in node.operand_predecessors if operand)


def _reach(
    order: Iterable[tuple[int, Sequence[int]]],
    start: Iterable[int],
    at: int,
    places: Mapping[int, int],
    nearest: Callable[[Iterable[int]], int],
) -> dict[int, tuple[int, int]]:
    """The place of the path nearest to each node, and the most counted nodes from there."""
    reach = dict.fromkeys(start, (at, 0))
    for node, neighbours in order:
        found = [(reach[n][0], reach[n][1] + 1) for n in neighbours if n in reach]
        found += [reach[node]] if node in reach else []
        if node in places:
            reach[node] = (places[node], 0)
        elif found:
            place = nearest(place for place, _ in found)
            reach[node] = (place, max(length for p, length in found if p == place))
    return reach


def _on_branches(branches: Sequence[Branch], path: Container[int]) -> set[int]:
    """Nodes that belong to an addition of the path, which stands for them: on its own branch.

    A single sum within a branch (of a state-space layer, say) is part of it, where the stream
    outside has several additions; else a skip over all would stand for everything.
    """
    chains: dict[int, list[Branch]] = defaultdict(list)  # the innermost first
    for branch in branches:
        if branch.stream is not None:
            for node in branch.positions:
                chains[node].append(branch)
    found = {node for node, chain in chains.items() if _stands_for(chain, path)}
    for branch in branches:
        if branch.addition in path:
            found.update(branch.positions.keys() - chains.keys())
    return found


def _stands_for(chain: Sequence[Branch], path: Container[int]) -> bool:
    for place, branch in enumerate(chain):
        if branch.addition in path:
            is_outer = branch.stream_additions > 1
            return place == 0 or (is_outer and chain[place - 1].stream_additions == 1)
    return False


def path_notes(
    nodes: Sequence[Node],
    contraction: Contraction,
    missed: Collection[int],
    branches: Sequence[Branch],
) -> tuple[str, ...]:
    """Sentences on by-passed layers, gated streams and unknown operations; () for none."""
    notes = list(_unknown_layers(nodes))
    layers = sum(node.counted_as == "weight layer" for node in contraction.counted)
    if missed:
        names = name_pattern(dict.fromkeys(nodes[n].module or "(root)" for n in missed))
        where = shorten_middle(names, _NAMES)
        notes.append(
            f"the shortest path by-passes {len(missed)} of {layers} weight layers ({where}): the "
            "effective depth need not grow with them; count layers, or measure"
        )
    gated = [b for b in branches if b.is_gated]
    coupled = [b for b in branches if b.stream is not None and b.is_coupled]
    for found, kind, what in (
        (gated, "gated residual", "multiply the stream itself by a gate, as g x + (1 - g) f(x)"),
        (coupled, "coupled streams", "sum what holds another stream, as in reversible networks"),
    ):
        if found:
            notes.append(
                f"{kind}: {len(found)} of {len(branches)} additions {what}: no branch multiplier "
                "holds for their branches"
            )
    return tuple(notes)


def _unknown_layers(nodes: Sequence[Node]) -> Iterator[str]:
    """A sentence on operations of other libraries that read a weight: what they do is not known."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for node in nodes:
        space, is_named, _ = node.op.partition(".")
        if node.weight is None and is_named and space not in _OF_PYTORCH:
            held = (o.parameters for o in node.operands if len(o.shape) > 1 and not o.producers)
            found[f"{space}.{node.name}"].update(dict.fromkeys(chain.from_iterable(held)))
    shown = [f"{op} of {name_pattern(names)}" for op, names in found.items() if names]
    if shown:
        where = shorten_middle("; ".join(shown), _NAMES)
        yield (
            f"operations of another library read weights, {where}: a layer among them is not "
            "counted and has no role"
        )
