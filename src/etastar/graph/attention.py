"""Which parameters make queries, keys and values, of heads of which size, under which scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from etastar.graph.node import Node, Operand
from etastar.graph.scaling import constant_factor
from etastar.parameter import AttentionPart

_SOFTMAX = ("_softmax", "softmax", "_safe_softmax")


def attention_parts(
    nodes: Sequence[Node], consumers: Mapping[int, Sequence[int]]
) -> dict[str, AttentionPart]:
    """The part that parameters have in the first attention that they serve, by name.

    A factor on the queries is one on the scores. It sits on the layer that makes them and its bias,
    or on the gain of a norm behind it. `consumers` are the nodes that read each node.
    """
    found: dict[str, AttentionPart] = {}
    for node in nodes:
        if node.kind == "attention contraction":
            for name, part in _parts(*_scores(node, nodes, consumers), nodes):
                found.setdefault(name, part)
    return found


def _scores(
    node: Node, nodes: Sequence[Node], consumers: Mapping[int, Sequence[int]]
) -> tuple[tuple[Operand, ...], float]:
    """Queries, keys and values of one attention, and the program's scale on the scores."""
    if "attention" in node.name and len(node.operands) > 2:
        given = node.call.kwargs.get("scale") if node.call is not None else None
        usual = node.operands[0].shape[-1] ** -0.5
        scale = given if isinstance(given, (int, float)) and given else usual
        return node.operands[:3], float(scale)
    index, factor, past_softmax = node.index, 1.0, False
    while len(consumers[index]) == 1:
        reader = nodes[consumers[index][0]]
        if reader.kind == "attention contraction" and past_softmax:
            values = [o for o in reader.operands if index not in o.producers]
            return (*node.operands[-2:], *values[-1:]), factor
        if reader.weight is not None or reader.kind == "attention contraction":
            break
        factor *= 1.0 if past_softmax else constant_factor(reader, index)
        past_softmax = past_softmax or reader.name in _SOFTMAX
        index = reader.index
    return (), 1.0


def _parts(
    operands: Sequence[Operand], scale: float, nodes: Sequence[Node]
) -> Iterator[tuple[str, AttentionPart]]:
    sides = [_Side.of(operand, nodes) for operand in operands]
    if len(sides) < 2 or not sides[0].layers:
        return
    queries, *others = sides
    factor = scale * queries.factor * others[0].factor
    one = AttentionPart(operands[0].shape[-1], factor, "several")
    for side in others:
        if side.layers and side.layers.isdisjoint(queries.layers):
            repeats = queries.size(nodes) // max(1, side.size(nodes))
            for name in side.of_layers:
                yield name, replace(one, makes="keys or values", repeats=max(1, repeats))
    shared = any(side.layers & queries.layers for side in others)
    if queries.is_normed and queries.gains:
        yield from ((name, replace(one, makes="queries")) for name in queries.gains)
    elif shared or queries.is_normed:
        yield from ((name, one) for name in queries.of_layers)
    else:
        names = (*queries.of_layers, *queries.added)
        yield from ((name, replace(one, makes="queries")) for name in names)


@dataclass(frozen=True)
class _Side:
    """What lies between the queries (keys, values) of an attention and the layers before it."""

    layers: frozenset[int]
    of_layers: tuple[str, ...]
    gains: tuple[str, ...]
    added: tuple[str, ...]
    is_normed: bool
    factor: float

    @classmethod
    def of(cls, operand: Operand, nodes: Sequence[Node]) -> _Side:
        layers, seen = set[int](), set[int]()
        names, gains, added = list[str](), list[str](), list[str]()
        is_normed, factor, pending = False, 1.0, list(operand.producers)
        while pending:
            node = nodes[pending.pop()]
            if node.index in seen or node.kind in ("input", "attention contraction"):
                continue
            seen.add(node.index)
            own = [n for o in node.operands if not o.producers for n in o.parameters]
            if node.weight is not None:
                layers.add(node.index)
                names += own
                continue
            normalizes = node.kind == "norm" or "rsqrt" in node.name
            if not is_normed:
                is_gain = node.name == "mul" or normalizes
                (gains if is_gain else added).extend(own)
                factor *= constant_factor(node, node.inputs[0]) if node.inputs else 1.0
            is_normed = is_normed or normalizes
            pending += node.inputs
        held = tuple(names), tuple(gains), tuple(added)
        return cls(frozenset(layers), *held, is_normed, factor)

    def size(self, nodes: Sequence[Node]) -> int:
        """Features that its layers make."""
        return sum(nodes[layer].shape[-1] for layer in self.layers)
