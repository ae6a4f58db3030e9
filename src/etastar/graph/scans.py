"""Loops over positions: their sums are one recurrence of a layer, and no residual additions."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from etastar.formatting import name_pattern
from etastar.graph.node import Node
from etastar.graph.operations import operation_of

__all__ = ["fold_scans"]

_Positions = dict[object, object]  # by what was taken a position of: which one, or _SEVERAL
_SEVERAL = object()


class _Taken(NamedTuple):
    """What a node holds that was made, since the last weight layers, from single positions alone.

    Attributes:
        positions: Which position of what.
        sums: Sums among the nodes that it was made by.
    """

    positions: _Positions
    sums: frozenset[int]


def fold_scans(
    nodes: Sequence[Node], additions: Container[int]
) -> tuple[tuple[Node, ...], str | None]:
    """The nodes, in which sums within a loop over positions sum nothing that counts.

    In `h = a[:, t] * h + b[:, t]` every step adds one position to what the others left. These sums
    are as many as the example has positions. They become operations that exchange information
    between positions without a weight, as `torch.cumsum` would: the sum of a layer's input and its
    whole result still counts.

    Args:
        nodes: The nodes of a graph.
        additions: Those that count as residual additions as they are.

    Returns:
        The nodes; and a note of how many additions were found where, None if there are none.

    Example:
        >>> import torch
        >>> from etastar.graph.capture import capture_graph
        >>> class Decaying(torch.nn.Bilinear):
        ...     def forward(self, x):
        ...         h, u = 0, super().forward(x, x)
        ...         for t in range(x.shape[1]):
        ...             h = x.sigmoid()[:, t] * h + u[:, t]
        ...         return h
        >>> graph = capture_graph(Decaying(2, 2, 2), torch.ones(1, 5, 2))
        >>> graph.depth().residual_additions
        0

    Reference:
        Selective scans arXiv 2312.00752; RWKV arXiv 2305.13048.
    """
    taken: list[_Taken | None] = []
    order: dict[object, int] = {}
    sums: dict[int, _Positions] = {}
    found: set[int] = set()
    for node in nodes:
        held = _position(nodes, node, order) or _made_of(node, taken)
        if held is not None and sum(1 for i in node.addends if node.operands[i].producers) > 1:
            if held.sums and _SEVERAL in held.positions.values():
                found |= held.sums | {node.index}
            held = _Taken(held.positions, held.sums | {node.index})
            sums[node.index] = held.positions
        taken.append(held)
    if not found:
        return tuple(nodes), None
    looped = set().union(*(sums[i] for i in found))
    found.update(i for i, positions in sums.items() if looped.issuperset(positions))
    counted = [i for i in sorted(found) if i in additions]
    if not counted:
        return tuple(nodes), None
    places = name_pattern(dict.fromkeys(nodes[i].module or "(root)" for i in counted))
    note = (
        f"{len(counted)} sums of loops over positions are not counted, in {places}: "
        "an example of another length has another number of them"
    )
    folded = (replace(n, addends=(), mixes=True) if n.index in found else n for n in nodes)
    return tuple(folded), note


def _position(nodes: Sequence[Node], node: Node, order: dict[object, int]) -> _Taken | None:
    """What a node holds that takes one position out of several."""
    if node.kind != "view" or node.call is None or len(node.inputs) != 1:
        return None
    (base,), name = node.inputs, operation_of(node.call.func).name
    shape = nodes[base].shape
    if name not in ("select", "slice", "unbind"):
        return None
    _, dim, start, *_ = (*node.call.args, 0, 0)[:3]
    kept = (1,) if name == "slice" else ()
    if dim >= len(shape) or node.shape != (*shape[: dim % len(shape)], *kept, *_after(shape, dim)):
        return None  # several positions, or a part of a buffer that the base was written into
    if name == "unbind":
        start = order[base] = order.get(base, -1) + 1
    return _Taken({(base, dim % len(shape)): (start or 0) % shape[dim]}, frozenset())


def _after(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    """Sizes behind a dimension."""
    return shape[dim % len(shape) + 1 :]


def _made_of(node: Node, taken: Sequence[_Taken | None]) -> _Taken | None:
    """The same of another operation, of whose activations all are such."""
    if node.weight is not None or not node.inputs:
        return None
    parts = [taken[producer] for producer in node.inputs]
    held = [part for part in parts if part is not None]
    if len(held) < len(parts):
        return None
    return _Taken(_merged(p.positions for p in held), frozenset().union(*(p.sums for p in held)))


def _merged(parts: Iterable[_Positions]) -> _Positions:
    merged: _Positions = {}
    for base, position in chain.from_iterable(part.items() for part in parts):
        merged[base] = position if merged.get(base, position) == position else _SEVERAL
    return merged
