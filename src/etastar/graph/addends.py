"""What sums and products of activations join: n-ary additions, loops over positions, gates.

A chain of sums whose partial sums have no other consumer is *one* addition. `stack([x, y]).sum(0)`,
a mean or a cumulative sum over that dimension, and `cat([x, y]).view(2, ...).sum(0)` sum x and y.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from etastar.formatting import name_pattern
from etastar.graph.node import Node, Operand, Slot
from etastar.graph.operations import COPIES, REARRANGED

Sums = dict[int, tuple[Operand, ...]]
"""What each n-ary addition sums, by its last node."""

_OVER_A_DIMENSION = frozenset(("sum", "mean", "cumsum"))
_SCALINGS = frozenset(("mul", "div", "neg", "native_dropout"))


def group_sums(nodes: Sequence[Node], outputs: Iterable[int]) -> tuple[Sums, dict[int, int]]:
    """The operands of every sum that is not part of another one, partial sums merged into it.

    And the sum that alone reads another one, once it was scaled, by that: `x + s (pool(x) - x)`.
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
    outer: dict[int, int] = {}
    for index, operands in sums.items():
        for operand in operands:
            inner = _inner_sum(nodes, sums, operand, consumers, through=_SCALINGS)
            if inner is not None:
                outer[inner] = index
    return sums, outer


def may_add(node: Node) -> bool:
    """Whether a node may turn out to be an addition, once it is known what it reads."""
    return bool(node.addends) or node.name in _OVER_A_DIMENSION or node.name == "_foreach_add"


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
        is_passed = node.kind == "view" or node.name in COPIES | through
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


_SQUASHED = frozenset(("sigmoid", "hardsigmoid", "_softmax", "softmax", "_safe_softmax"))
# What is done to a gate before it is applied: selection, normalization, affine maps by constants.
_KEEPS = frozenset(
    "topk mul div add sub rsub neg pow sum mean clamp where masked_fill scatter index_put"
    " native_dropout cat stack upsample_bilinear2d".split()
).union(COPIES, REARRANGED)


def gating_operands(nodes: Sequence[Node]) -> dict[int, Operand]:
    """The operand that is a gate, for every product of two activations that has one.

    In `f(x) * sigmoid(g(x))`, `silu(g(x)) * f(x)`, squeeze and excite or a mixture of experts, the
    way of a signal leads through f; the weights of g are on no way of their own. Of two factors the
    gate is the one that was squashed (sigmoid, softmax) while the other was not, else the one that
    was bent by an activation while the other was not. Where neither or both were, both are ways.
    """
    squashed: list[bool] = []
    bent: list[bool] = []
    gates: dict[int, Operand] = {}
    for node in nodes:
        factors = [operand for operand in node.operands if operand.producers]
        keeps = bool(factors) and (node.kind == "view" or node.name in _KEEPS)
        for found, is_made in (
            (squashed, node.name in _SQUASHED),
            (bent, node.kind == "activation" or node.name in _SQUASHED),
        ):
            found.append(is_made or (keeps and all(found[p] for p in node.inputs)))
        if node.name == "mul" and len(factors) == 2:
            for known in (squashed, bent):
                first, second = (all(known[p] for p in factor.producers) for factor in factors)
                if first != second:
                    gates[node.index] = factors[0 if first else 1]
                    break
    return gates


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

    In `h = a[:, t] * h + b[:, t]` every step adds one position to what the others left, as in
    selective scans (arXiv 2312.00752) and RWKV (arXiv 2305.13048). These sums are as many as the
    example has positions. They become operations that exchange information between positions
    without a weight, as `torch.cumsum` would: the sum of a layer's input and its whole result still
    counts.

    Args:
        nodes: The nodes of a graph.
        additions: Those that count as residual additions as they are.

    Returns:
        The nodes; and a note of how many additions were found where, None if there are none.
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
    is_taken = node.kind == "view" and node.name in ("select", "slice", "unbind")
    if not is_taken or node.call is None or len(node.inputs) != 1:
        return None
    (base,) = node.inputs
    shape = nodes[base].shape
    _, dim, start, *_ = (*node.call.args, 0, 0)[:3]
    if dim >= len(shape):
        return None
    kept, place = (1,) if node.name == "slice" else (), dim % len(shape)
    if node.shape != (*shape[:place], *kept, *shape[place + 1 :]):
        return None  # several positions, or a part of a buffer that the base was written into
    if node.name == "unbind":
        start = order[base] = order.get(base, -1) + 1
    return _Taken({(base, place): (start or 0) % shape[dim]}, frozenset())


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
