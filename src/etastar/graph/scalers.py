"""What scales the output of a residual branch: where a branch multiplier can sit."""

from __future__ import annotations

from collections.abc import Container, Sequence

from etastar.graph.derived import affine_form
from etastar.graph.node import Node
from etastar.graph.residual import Branch

__all__ = ["HOMOGENEOUS", "output_scalers"]

HOMOGENEOUS = frozenset(
    "add sub neg native_dropout relu leaky_relu mean sum cat stack avg_pool1d avg_pool2d avg_pool3d"
    " _adaptive_avg_pool2d _adaptive_avg_pool3d max_pool2d_with_indices index_add slice_scatter"
    " constant_pad_nd index index_select _to_copy clone contiguous copy _unsafe_view"
    " roll flip rot90 gather pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle"
    " reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d"
    " replication_pad3d upsample_nearest1d upsample_nearest2d upsample_nearest3d"
    " upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d".split()
)
"""Operations with f(m x) = m f(x) for every m > 0."""
_SCALING = frozenset(("mul", "div"))


def output_scalers(
    nodes: Sequence[Node],
    branch: Branch,
    before: Sequence[frozenset[int]],
    shared: Container[str] = (),
) -> frozenset[int]:
    """Nodes whose parameters, all multiplied by m > 0, multiply the branch's output by m.

    They are the last weight layers (with their biases), or the gains and shifts behind them.

    Args:
        nodes: The nodes of the graph.
        branch: A branch of it.
        before: Nearest counted nodes before each node.
        shared: Parameters that several operations read: the gains of all layers in one tensor.

    Returns:
        The nodes; none where an operation in between does not pass a factor on, a norm without
        gain absorbs it, or the stream itself is gated, so that no factor belongs to the branch.

    Reference:
        [TP6] arXiv 2310.02244 and [CP] arXiv 2505.01618 put a multiplier on each branch's output.
    """
    if branch.is_gated:
        return frozenset()
    walk = _Walk(nodes, branch, before, shared)
    scalers = walk.union(nodes[branch.addition].inputs)
    return scalers if scalers is not None else frozenset()


class _Walk:
    """Backwards from the addition to what scales the branch; None where a factor is lost."""

    def __init__(
        self,
        nodes: Sequence[Node],
        branch: Branch,
        before: Sequence[frozenset[int]],
        shared: Container[str],
    ) -> None:
        self.nodes = nodes
        self.shared = shared
        self.branch = branch
        self.before = before
        self.ends = branch.last | branch.inner
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
        if is_layer or (self.before[node.index] & self.ends and self._is_gain(node)):
            return frozenset((node.index,))
        if node.index in self.branch.positions and node.index not in self.branch.inner:
            return None
        if not self.before[node.index] & self.ends:
            return frozenset()
        if node.name in _SCALING and len(node.inputs) > 1:
            return self._product(node)
        if node.kind == "norm" or not _passes_on(node):
            return None
        found = self.union(node.inputs)
        is_own = bool(node.parameters) and node.name not in _SCALING
        own = frozenset((node.index,) if is_own else ())
        return None if found is None else found | own

    def _product(self, node: Node) -> frozenset[int] | None:
        """A product scales with one factor, if the other one does not depend on what scales it."""
        factors = [o.producers for o in node.operands if o.producers]
        for number, producers in enumerate(factors[:1] if node.name == "div" else factors):
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

    def _is_gain(self, node: Node) -> bool:
        """Multiplies by a (w + c) of a parameter of its own: an affine norm, a layer scale."""
        if any(len(operand.parameters) > 1 for operand in node.operands):
            return False  # a factor on each of a product's parameters would count twice
        is_scaled = node.kind == "norm" or (node.name in _SCALING and len(node.inputs) == 1)
        read = [operand for operand in node.operands if operand.parameters]
        return (
            is_scaled
            and bool(read)
            and not any(name in self.shared for name in node.parameters)
            and all(affine_form(operand.steps) is not None for operand in read)
        )


def _passes_on(node: Node) -> bool:
    return node.kind == "view" or node.name in HOMOGENEOUS | _SCALING
