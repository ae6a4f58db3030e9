"""Parameters that are used more than once: tied tables, and recurrence."""

from __future__ import annotations

from collections import defaultdict

from etastar.graph.contraction import Contraction
from etastar.graph.dag import Graph

__all__ = ["recurrent_parameters", "tied_parameters", "unused_parameters"]


def _uses(graph: Graph, contraction: Contraction) -> dict[str, list[int]]:
    """Counted weight layers that use each parameter, in the order of execution."""
    uses: dict[str, list[int]] = defaultdict(list)
    for node in contraction.counted:
        weight = graph.nodes[node.node].weight
        for name in weight.parameters if weight is not None else ():
            uses[name].append(node.node)
    return uses


def tied_parameters(graph: Graph, contraction: Contraction) -> tuple[str, ...]:
    """Parameters that serve both as a table that is looked up and as a projection.

    Args:
        graph: The captured graph.
        contraction: Its counted nodes.

    Returns:
        Names, in the order of first use.
    """
    return tuple(name for name, nodes in _uses(graph, contraction).items() if _ties(graph, nodes))


def _ties(graph: Graph, nodes: list[int]) -> bool:
    types = {weight.layer_type for n in nodes if (weight := graph.nodes[n].weight) is not None}
    return len(types) > 1 and "embedding" in types


def recurrent_parameters(graph: Graph, contraction: Contraction) -> tuple[str, ...]:
    """Parameters that two weight layers on one path use, ties of a table and a head apart.

    A recurrent module (LSTM, GRU) reuses its weights at every step within its one node.

    Args:
        graph: The captured graph.
        contraction: Its counted nodes.

    Returns:
        Names, in the order of first use.

    Reference:
        [WU] arXiv 2602.07494: the law is stated for non-recurrent networks.
    """
    uses = _uses(graph, contraction)
    reused = {name: nodes for name, nodes in uses.items() if len(nodes) > 1}
    ancestors = _ancestors(contraction, {n for nodes in reused.values() for n in nodes})
    found = []
    for name, nodes in uses.items():
        weights = [graph.nodes[n].weight for n in nodes]
        if any(w is not None and w.layer_type == "recurrent" for w in weights) or (
            name in reused and _lie_on_one_path(graph, nodes, ancestors)
        ):
            found.append(name)
    return tuple(found)


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


def _lie_on_one_path(graph: Graph, nodes: list[int], ancestors: dict[int, int]) -> bool:
    return any(
        ancestors[later] >> earlier & 1 and not _ties(graph, [earlier, later])
        for i, earlier in enumerate(nodes)
        for later in nodes[i + 1 :]
    )


def unused_parameters(graph: Graph) -> tuple[str, ...]:
    """Parameters of two or more dimensions that no operation on an activation consumed.

    They show when a part of the model was not executed: an expert that got no token.

    Args:
        graph: The captured graph.

    Returns:
        Names, in the order of the model.
    """
    used = {name for node in graph.nodes for name in node.parameters}
    return tuple(
        name
        for name, record in graph.parameters.items()
        if len(record.shape) >= 2 and name not in used
    )
