"""What the effective depth does not show: layers that the shortest path by-passes, gated streams.

Along a residual stream the shortest path takes the additions and leaves the branches out, which is
what effective depth means. It *by-passes* a layer where a longer way, on which the layer lies,
leaves the path and comes back to it past more counted nodes than the path has there, and the layer
is on no branch of an addition of the path, or in a stream within that branch: skips that are
concatenated (DenseNet, U-Net), an earlier state that is mixed in again (`x + mu x0`), a skip over
all blocks. How this works: of every node, the last node of the path before it and the longest way
from there; backwards likewise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Mapping, Sequence

from etastar.formatting import name_pattern, shorten_middle
from etastar.graph.contraction import Contraction, CountedNode
from etastar.graph.node import Node
from etastar.graph.residual import Branch

__all__ = ["bypassed_layers", "path_notes"]

_NAMES = 60  # characters

_Reach = dict[int, tuple[int, int]]  # place on the path, and the longest way from there


def bypassed_layers(
    contraction: Contraction,
    outputs: Sequence[str],
    path: Sequence[int],
    branches: Sequence[Branch],
) -> dict[int, bool]:
    """Weight layers that the shortest path by-passes, and whether through a sum.

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
    first = set(counted[path[0]].predecessors).intersection(sources) if path else set[int]()
    places = {node: place for place, node in enumerate(path, start=1)}
    forward: _Reach = dict.fromkeys(first, (0, 0))
    for node in contraction.counted:
        _extend(forward, node.node, node.predecessors, places, latest=True)
    after: dict[int, list[int]] = {node: [] for node in (*counted, *sources)}
    for node in contraction.counted:
        for predecessor in node.predecessors:
            after[predecessor].append(node.node)
    end = len(path) + 1
    backward: _Reach = {}
    ends = {node for name in outputs for node in contraction.outputs[name]}
    for node in reversed(contraction.counted):
        if node.node in ends:
            backward[node.node] = (end, 0)
        _extend(backward, node.node, after[node.node], places, latest=False)
    on_branches = _on_branches(branches, places)
    ways = _on_ways(contraction, outputs)
    sums = {place for n, place in places.items() if _sums_alone(counted[n], path, place, first)}
    return {
        node.node: backward[node.node][0] in sums
        for node in contraction.counted
        if node.counted_as == "weight layer"
        and node.node in ways - on_branches
        and node.node not in places
        and node.node in forward
        and node.node in backward
        and _is_longer(forward[node.node], backward[node.node])
    }


def _sums_alone(node: CountedNode, path: Sequence[int], place: int, first: set[int]) -> bool:
    """Whether it is an addition, with operands that hold nothing but the path before it."""
    before = {path[place - 2]} if place > 1 else first
    return any(before.issuperset(operand) for operand in node.operand_predecessors if operand)


def _extend(
    reach: _Reach, node: int, neighbours: Sequence[int], places: Mapping[int, int], *, latest: bool
) -> None:
    """The place of the path nearest to a node, and the most counted nodes from there."""
    if node in places:
        reach[node] = (places[node], 0)
        return
    found = [(reach[n][0], reach[n][1] + 1) for n in neighbours if n in reach]
    if node in reach:
        found.append(reach[node])
    if found:
        nearest = (max if latest else min)(place for place, _ in found)
        reach[node] = (nearest, max(length for place, length in found if place == nearest))


def _is_longer(forward: tuple[int, int], backward: tuple[int, int]) -> bool:
    (start, before), (end, behind) = forward, backward
    return before + behind - 1 > end - start - 1


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


def _on_ways(contraction: Contraction, outputs: Sequence[str]) -> set[int]:
    """Counted nodes that lead to an output on another way than through gates."""
    found = {node for name in outputs for node in contraction.output_ways[name]}
    for node in reversed(contraction.counted):
        if node.node in found:
            found.update(node.ways)
    return found


def path_notes(
    nodes: Sequence[Node],
    contraction: Contraction,
    missed: Collection[int],
    branches: Sequence[Branch],
) -> tuple[str, ...]:
    """Sentences on by-passed layers and on gated streams.

    Args:
        nodes: The nodes of the graph.
        contraction: The contracted graph.
        missed: What `bypassed_layers` found.
        branches: The branches of the additions.

    Returns:
        The sentences; () where there is nothing to say.
    """
    notes: list[str] = []
    layers = sum(node.counted_as == "weight layer" for node in contraction.counted)
    if missed:
        names = name_pattern(dict.fromkeys(nodes[n].module or "(root)" for n in missed))
        where = shorten_middle(names, _NAMES)
        notes.append(
            f"the shortest path by-passes {len(missed)} of {layers} weight layers ({where}): the "
            "effective depth need not grow with them; count layers, or measure"
        )
    gated = [b for b in branches if b.is_gated]
    if gated:
        notes.append(
            f"gated residual: {len(gated)} of {len(branches)} additions multiply the stream itself "
            "by a gate, as g x + (1 - g) f(x): no branch multiplier holds for their branches"
        )
    return tuple(notes)
