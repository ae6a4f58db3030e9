"""What each n-ary addition sums: chains of sums, sums over stacked tensors, what only mixes.

A chain of sums whose partial sums have no other consumer is *one* addition. `stack([x, y]).sum(0)`,
a mean or a cumulative sum over that dimension, and `cat([x, y]).view(2, ...).sum(0)` sum x and y.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from etastar.graph.node import Node, Operand, Slot

__all__ = ["Sums", "group_sums", "outer_sums"]

Sums = dict[int, tuple[Operand, ...]]
"""What each n-ary addition sums, by its last node."""

# The same values in another place or precision.
_COPIES = frozenset(("_to_copy", "clone", "contiguous", "_unsafe_view"))
_OVER_A_DIMENSION = frozenset(("sum", "mean", "cumsum"))
_SCALINGS = frozenset(("mul", "div", "neg", "native_dropout"))


def group_sums(nodes: Sequence[Node], outputs: Iterable[int]) -> Sums:
    """Merge sums whose partial results have no other consumer into n-ary additions.

    Args:
        nodes: The nodes of a graph.
        outputs: Nodes that are outputs.

    Returns:
        The operands of every sum that is not part of another one.
    """
    consumers = _count_consumers(nodes, outputs)
    sums: Sums = {}
    for node in nodes:
        addends = _addends(nodes, node, consumers)
        if addends:
            flat: list[Operand] = []
            for operand in addends:
                inner = _inner_sum(nodes, sums, operand, consumers)
                flat += (operand,) if inner is None else sums.pop(inner)
            sums[node.index] = tuple(flat)
    return sums


def outer_sums(nodes: Sequence[Node], sums: Sums, outputs: Iterable[int]) -> dict[int, int]:
    """Sums that nothing but another sum reads, once they were scaled: s in `x + s (pool(x) - x)`.

    Args:
        nodes: The nodes of a graph.
        sums: Its n-ary additions.
        outputs: Nodes that are outputs.

    Returns:
        The other sum, by the first one.
    """
    consumers = _count_consumers(nodes, outputs)
    outer: dict[int, int] = {}
    for index, operands in sums.items():
        for operand in operands:
            inner = _inner_sum(nodes, sums, operand, consumers, through=_SCALINGS)
            if inner is not None:
                outer[inner] = index
    return outer


def _count_consumers(nodes: Sequence[Node], outputs: Iterable[int]) -> list[int]:
    consumers = [0] * len(nodes)
    for node in nodes:
        for operand in node.operands:  # `v + v` consumes v twice, however it is bracketed
            for producer in operand.producers:
                consumers[producer] += 1
    for producer in outputs:
        consumers[producer] += 1
    return consumers


def _inner_sum(
    nodes: Sequence[Node],
    sums: Sums,
    operand: Operand,
    consumers: list[int],
    through: frozenset[str] = frozenset(),
) -> int | None:
    """The sum that an operand is, if nothing else consumes it."""
    while len(operand.producers) == 1 and consumers[operand.producers[0]] == 1:
        node = nodes[operand.producers[0]]
        if node.index in sums:
            return node.index
        is_passed = node.kind == "view" or node.name in _COPIES | through
        if not is_passed or len(node.inputs) != 1:
            return None
        operand = next(o for o in node.operands if o.producers)
    return None


def _addends(nodes: Sequence[Node], node: Node, consumers: list[int]) -> tuple[Operand, ...]:
    if node.name == "lerp" and len(node.operands) > 2 and node.operands[2].producers:
        start, end, gate = node.operands[:3]  # (1 - g) x + g y
        both = (replace(o, producers=o.producers + gate.producers) for o in (start, end))
        return tuple(both)
    if node.addends:
        return tuple(node.operands[position] for position in node.addends)
    if node.name == "_foreach_add":
        return node.operands
    if node.name in _OVER_A_DIMENSION and node.call is not None and len(node.inputs) == 1:
        dims = node.call.args[1] if len(node.call.args) > 1 else node.call.kwargs.get("dim")
        asked = (dims,) if isinstance(dims, int) else tuple(dims or ())
        return _stacked(nodes, node.operands[0], asked, consumers)
    return ()


def _stacked(
    nodes: Sequence[Node], operand: Operand, dims: tuple[int, ...], consumers: list[int]
) -> tuple[Operand, ...]:
    """The tensors whose stack has one of the dimensions as its new one; () where there is none."""
    summed = {dim % len(operand.shape) for dim in dims if operand.shape}
    split = operand.shape
    while summed and len(operand.producers) == 1 and consumers[operand.producers[0]] == 1:
        node = nodes[operand.producers[0]]
        args = node.call.args if node.call is not None else ()
        parts = args[0] if args and isinstance(args[0], (list, tuple)) else ()
        if node.name in ("stack", "cat") and all(isinstance(part, Slot) for part in parts):
            dim = args[1] if len(args) > 1 else 0
            shapes = [node.operands[part.operand].shape for part in parts]
            if _is_new_dimension(node, dim % len(node.shape), shapes, split, summed):
                return tuple(node.operands[part.operand] for part in parts)
            return ()
        if node.kind != "view" or not args:
            return ()
        if node.name == "permute":
            summed = {args[1][dim] % len(args[1]) for dim in summed}
            split = nodes[node.operands[0].producers[0]].shape
        elif node.name not in ("view", "_unsafe_view") or node.shape != split:
            return ()
        operand = node.operands[0]
    return ()


def _is_new_dimension(
    node: Node,
    dim: int,
    shapes: Sequence[tuple[int, ...]],
    split: tuple[int, ...],
    summed: set[int],
) -> bool:
    """Whether one of the summed dimensions counts the tensors that were put together."""
    if dim not in summed or len(set(shapes)) != 1:
        return False
    if node.name == "stack" or shapes[0][dim] == 1:
        return split == node.shape
    # a concatenation that was split again: (..., k n, ...) seen as (..., k, n, ...)
    return split[: dim + 1] == (*node.shape[:dim], len(shapes)) and math.prod(
        split[dim + 1 :]
    ) == math.prod(shapes[0][dim:])
