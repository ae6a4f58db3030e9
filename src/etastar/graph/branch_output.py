"""Which operations scale the output of a residual branch: where a branch multiplier can sit."""

from __future__ import annotations

from collections.abc import Sequence

from etastar.graph.dag import Graph, Node
from etastar.graph.residual import Branch

__all__ = ["output_scalers"]

# f(m x) = m f(x) for every m > 0.
_HOMOGENEOUS = frozenset(
    "add sub neg native_dropout relu leaky_relu mean sum cat stack avg_pool1d avg_pool2d avg_pool3d"
    " _adaptive_avg_pool2d _adaptive_avg_pool3d max_pool2d_with_indices index_add slice_scatter"
    " constant_pad_nd _to_copy clone contiguous copy _unsafe_view".split()
)
_SCALING = frozenset(("mul", "div"))


def _name(node: Node) -> str:
    return node.op.split(".")[1].rstrip("_")


def output_scalers(
    graph: Graph, branch: Branch, before: Sequence[frozenset[int]]
) -> frozenset[int]:
    """Nodes whose parameters, all multiplied by m > 0, multiply the branch's output by m.

    They are the last weight layers (with their biases), or the gains and shifts behind them.

    Args:
        graph: The captured graph.
        branch: A branch of it.
        before: Nearest counted nodes before each node.

    Returns:
        The nodes; none where an operation in between does not pass a factor on, or a norm without
        gain absorbs it.

    Reference:
        [TP6] arXiv 2310.02244 and [CP] arXiv 2505.01618 put a multiplier on each branch's output.
    """
    found: set[int] = set()
    seen: set[int] = set()
    pending = list(graph.nodes[branch.addition].inputs)
    while pending:
        node = graph.nodes[pending.pop()]
        is_layer = node.index in branch.last
        if node.index in seen or not (is_layer or before[node.index] & branch.last):
            continue
        seen.add(node.index)
        if node.index in branch.positions and not is_layer:
            return frozenset()
        if is_layer or _is_gain(node):
            found.add(node.index)
        elif node.kind == "norm" or not _passes_on(node):
            return frozenset()
        else:
            found.update((node.index,) if node.parameters else ())
            pending += node.inputs
    return frozenset(found)


def _is_gain(node: Node) -> bool:
    """Multiplies by a parameter: an affine norm, a layer scale."""
    return bool(node.parameters) and (node.kind == "norm" or _name(node) in _SCALING)


def _passes_on(node: Node) -> bool:
    if _name(node) in _SCALING:
        return len(node.inputs) == 1
    return node.kind == "view" or _name(node) in _HOMOGENEOUS
