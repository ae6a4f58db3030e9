"""Inputs that condition a network: a time, a class, a prompt, beside the data that it works on.

The data go along a residual stream from its start. A condition enters it on the way, by gains,
shifts, gates, sums or attention within the branches, so that the shortest path from it is that
through its last entry, however deep the network is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etastar.graph.contraction import Contraction, CountedNode
from etastar.graph.node import Node, Operand

__all__ = ["conditions", "disagreement"]


def conditions(nodes: Sequence[Node], contraction: Contraction) -> tuple[str, ...]:
    """Those of the sources that are no data, but conditions of the others.

    A stream starts at the skip of its first addition. The data are the sources that reach the start
    of a stream without passing through another stream: in `x + branch(x, t)` that is x alone. In a
    network without streams, and where several start one together, a condition is a source that
    enters again behind weight layers that it has passed already, while another one does not.

    Args:
        nodes: The nodes of a graph.
        contraction: Its counted nodes, from all inputs that may be data.

    Returns:
        Names of the conditions; never all sources.

    Example:
        >>> import torch
        >>> from etastar.graph.capture import capture_graph
        >>> class Block(torch.nn.Linear):
        ...     def forward(self, x, t):
        ...         return x + t * super().forward(x)
        >>> class Net(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.time, self.block = torch.nn.Linear(1, 4), Block(4, 4)
        ...     def forward(self, x, t):
        ...         return self.block(x, self.time(t))
        >>> graph = capture_graph(Net(), torch.ones(2, 4), torch.ones(2, 1))
        >>> graph.data_inputs, graph.conditions
        (('x',), ('t',))

    Reference:
        FiLM arXiv 1709.07871; adaptive layer norm of DiT arXiv 2212.09748.
    """
    if len(contraction.sources) < 2:
        return ()
    reach = _sources_before(contraction, frozenset())
    skips = {n.node: skip for n in contraction.counted if (skip := _skip(n, reach)) is not None}
    starts = set(skips.values()) - set(skips)
    beside = _sources_before(contraction, frozenset(skips))
    data = frozenset[int]().union(*(beside[start] for start in starts))
    data = data or frozenset(contraction.sources.values())
    if len(data) > 1:
        alone = frozenset[int]().union(*(reach[s] for s in starts if len(reach[s]) == 1))
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


def _sources_before(contraction: Contraction, walls: frozenset[int]) -> dict[int, frozenset[int]]:
    """Sources that reach each counted node, and each source, on ways without a wall."""
    reach = {source: frozenset((source,)) for source in contraction.sources.values()}
    for node in contraction.counted:
        before = () if node.node in walls else node.predecessors
        reach[node.node] = frozenset[int]().union(*(reach[p] for p in before))
    return reach


def _skip(node: CountedNode, reach: Mapping[int, frozenset[int]]) -> int | None:
    """Where the skip of an addition comes from: one node, before layers of all other operands."""
    for operand in node.operand_predecessors:
        others = [o for o in node.operand_predecessors if o is not operand]
        if len(operand) == 1 and all(operand[0] not in o for o in others):
            held = reach[operand[0]]
            if all(any(held <= reach[p] and operand[0] < p for p in o) for o in others):
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
            if len(alone) == 1 and alone <= _behind(node, operand, passed):
                found |= alone
        if node.weight is not None and len(held[-1]) > 1:
            behind |= held[-1]
        passed.append(behind)
    return found


def _behind(node: Node, operand: Operand, passed: Sequence[frozenset[int]]) -> frozenset[int]:
    """Sources that have passed a layer together with others within the other operands."""
    others = (p for o in node.operands if o is not operand for p in o.producers)
    return frozenset[int]().union(*(passed[p] for p in others))
