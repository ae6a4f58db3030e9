"""Replay the element-wise operations between a tensor and its nearest other ancestors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from etastar.graph.dag import Graph
from etastar.graph.node import Call, Node, Operand
from etastar.graph.operations import COPIES, POOLED, REARRANGED, derive, is_pointwise

Root = tuple[object, ...]
"""Identity of one independent standard normal variable: a node, or a slice of its output."""

_SUMS = frozenset(["add", "sub", "rsub"])
_IDENTITIES = COPIES.union("native_dropout dropout feature_dropout alpha_dropout".split())
_JOINED = frozenset(["cat", "stack", "slice_scatter", "select_scatter", "index_put"])
_REDUCTIONS = frozenset(["mean", "sum", "var", "var_mean", "std", "linalg_vector_norm", "norm"])
_SPLITS = frozenset(
    ["split", "split_with_sizes", "chunk", "tensor_split", "unbind", "unsafe_split", "unsafe_chunk"]
)
_BARRIERS = frozenset(
    {"input", "weight layer", "residual addition", "norm", "attention contraction"}
)

_MOST_CHANNELS = 256
"""Different slopes that are evaluated side by side; more would only cost memory."""

_ANY_VALUE = torch.full((1, 1, 1), 0.5, dtype=torch.float64)


class NotReplayableError(Exception):
    """Why a stretch of operations cannot be replayed; becomes a note in the report."""


class JoinedPartsError(Exception):
    """A tensor that was joined of parts, of which none is chosen.

    Attributes:
        key: Identity of the tensor, for `PointwiseReplay.chosen`.
        parts: The parts that depend on an input.
    """

    def __init__(self, key: Root, parts: tuple[Operand, ...]) -> None:
        super().__init__(key)
        self.key, self.parts = key, parts


def _is_pointwise(node: Node) -> bool:
    if node.kind in _BARRIERS or node.call is None:
        return False
    return is_pointwise(node.call.func, node.name) or node.name == "glu"


@dataclass
class PointwiseReplay:
    """Replays the operations between one operand and its roots on other values.

    Two passes over the same code: the first, with no values, only finds the roots; later ones
    evaluate. A root is the nearest ancestor that is not element-wise, or, below a split or slice,
    each operand that reads it: the two halves of a gated unit are different variables.

    Attributes:
        graph: The captured graph.
        parameters: Current values of the parameters, by canonical name.
        chosen: For each tensor that was joined of parts (a concatenation, a buffer filled in
            pieces) the part that stands for it.
        roots: Found by the latest `evaluate`, in order of discovery.
        notes: What had to be assumed.
        parts_taken: How often a part was chosen, to limit the work.
    """

    graph: Graph
    parameters: Mapping[str, torch.Tensor]
    chosen: dict[Root, int] = field(default_factory=dict)
    roots: list[Root] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    parts_taken: int = 0
    _values: Sequence[torch.Tensor] = field(init=False)
    _memo: dict[tuple[object, ...], torch.Tensor] = field(init=False)

    def evaluate(self, operand: Operand, values: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Value of what a node reads, when its roots, in order of discovery, have these values.

        Without values it finds the roots.

        Raises:
            NotReplayableError: Something between cannot be replayed.
            JoinedPartsError: It was joined of parts, and none is chosen.
        """
        self.roots.clear()
        self._values, self._memo = values, {}
        return self._operand(operand, ("sink",), ())

    def _root(self, root: Root) -> torch.Tensor:
        if root not in self.roots:
            self.roots.append(root)
        place = self.roots.index(root)
        return self._values[place] if place < len(self._values) else _ANY_VALUE

    def _operand(self, operand: Operand, edge: Root, tag: Root) -> torch.Tensor:
        """Value of an operand; `edge` tells apart who reads it, `tag` the half of a GLU."""
        if not operand.producers:
            return self._constant(operand)
        if len(operand.producers) > 1:
            pieces = tuple(Operand((i,), (), self.graph.nodes[i].shape) for i in operand.producers)
            return self._joined(operand.producers, pieces, edge, tag)
        return self._node(self.graph.nodes[operand.producers[0]], edge, tag)

    def _node(self, node: Node, edge: Root, tag: Root) -> torch.Tensor:
        if node.kind == "view" or (node.name in _IDENTITIES and node.operands):
            return self._view(node, edge, tag)
        if node.name in _JOINED and node.kind not in _BARRIERS:
            parts = tuple(o for o in node.operands if o.producers)
            return self._joined((node.index,), parts, edge, tag)
        if not _is_pointwise(node) or self._normalizes(node):
            return self._moved(node, edge, tag)
        key = (node.index, *tag)
        if key not in self._memo:
            self._memo[key] = self._replay(node, tag)
        return self._memo[key]

    def _joined(self, key: Root, parts: tuple[Operand, ...], edge: Root, tag: Root) -> torch.Tensor:
        """The chosen part of what was joined."""
        if len(parts) > 1 and key not in self.chosen:
            raise JoinedPartsError(key, parts)
        return self._operand(parts[self.chosen.get(key, 0)], edge, tag)

    def _moved(self, node: Node, edge: Root, tag: Root) -> torch.Tensor:
        """What other positions hold is another variable of the same distribution."""
        name = node.name
        source = next((o for o in node.operands if o.producers), None)
        if node.kind in _BARRIERS or source is None or self._normalizes(node):
            return self._root((node.index, *tag))
        if name not in REARRANGED | POOLED:
            self._note(f"what {name} makes is taken for a standard normal variable")
            return self._root((node.index, *tag))
        if name in POOLED:
            self._note(f"{name} is taken to keep the second moment")
        return self._operand(source, edge, (*tag, node.index))

    def _view(self, node: Node, edge: Root, tag: Root) -> torch.Tensor:
        source = next((o for o in node.operands if o.producers), None)
        if source is None:
            return self._root((node.index, *tag))
        whole = max(math.prod(self.graph.nodes[index].shape) for index in source.producers)
        if math.prod(node.shape) < whole:  # a slice is one variable
            tag = (*tag, node.index)
            if node.name in _SPLITS:
                self._note("each reader of a split is taken for a part of its own")
                tag = (*tag, *edge)
        return self._operand(source, edge, tag)

    def _replay(self, node: Node, tag: Root) -> torch.Tensor:
        if node.name == "glu":
            first, second = (
                self._operand(node.operands[0], (node.index, i), (*tag, node.index, i))
                for i in (0, 1)
            )
            return first * torch.sigmoid(second)
        noise = self._noise_free_operand(node)
        if noise is not None:
            return self._operand(noise, (node.index, 0), tag)
        values = [self._read(node, k, tag) for k in range(len(node.operands))]
        assert node.call is not None
        return _call(node, node.call, values)

    def _normalizes(self, node: Node) -> bool:
        """Whether it is the last step of a norm written by hand: x times f(reduction of x)."""
        active = [operand for operand in node.operands if operand.producers]
        if node.name not in ("mul", "div") or len(active) < 2:
            return False
        return any(self._is_reduced(operand) for operand in active)

    def _is_reduced(self, operand: Operand) -> bool:
        """Whether it is an element-wise function of a reduction alone."""
        while len(operand.producers) == 1:
            node = self.graph.nodes[operand.producers[0]]
            if node.name in _REDUCTIONS:
                return True
            active = [o for o in node.operands if o.producers]
            if len(active) != 1 or not (node.kind == "view" or _is_pointwise(node)):
                return False
            operand = active[0]
        return False

    def _noise_free_operand(self, node: Node) -> Operand | None:
        """The other factor of a product with a full-size constant: dropout's mask, or noise."""
        if node.name not in ("mul", "div") or len(node.operands) != 2:
            return None
        active = [o for o in node.operands if o.producers]
        constant = [o for o in node.operands if not o.producers and not o.parameters]
        if len(active) == 1 and constant and constant[0].shape == node.shape and node.shape:
            self._note("a product with a constant of full size is taken for dropout")
            return active[0]
        return None

    def _read(self, node: Node, k: int, tag: Root) -> torch.Tensor:
        operand = node.operands[k]
        if node.name in _SUMS and not operand.producers and operand.parameters:
            self._note(f"added parameter {operand.parameters[0]} is taken for a bias of zero")
            return torch.zeros((1, 1, 1), dtype=torch.float64)
        return self._operand(operand, (node.index, k), tag)

    def _constant(self, operand: Operand) -> torch.Tensor:
        """Value of a parameter: scalar or one per channel, along the last axis."""
        if len(operand.parameters) != 1:
            raise NotReplayableError("it reads a constant tensor whose value the graph lacks")
        name = operand.parameters[0]
        value = self.parameters.get(name)
        if value is None or value.is_meta or operand.steps is None or not value.numel():
            raise NotReplayableError(f"the value computed from parameter {name} is not known")
        if value.is_complex():
            raise NotReplayableError(f"parameter {name} is complex")
        slopes = derive(operand.steps, value.detach().to("cpu", torch.float64)).reshape(1, 1, -1)
        if bool((slopes == slopes[..., :1]).all()):
            slopes = slopes[..., :1]
        elif value.numel() != math.prod(operand.shape):
            raise NotReplayableError(f"the part of parameter {name} that it reads is not known")
        if slopes.shape[-1] > min(_MOST_CHANNELS, max((1, *operand.shape))):
            raise NotReplayableError(f"parameter {name} has too many different values")
        self._note(f"with the value of {name}")
        return slopes

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _call(node: Node, call: Call, values: list[torch.Tensor]) -> torch.Tensor:
    """Call the operation on copies, so that in-place forms write to nothing of ours."""
    if node.name == "_prelu_kernel" or node.name == "prelu":
        x, slope = values
        return torch.where(x > 0, x, slope * x)
    try:
        shape = torch.broadcast_shapes(*(v.shape for v in values))  # type: ignore[no-untyped-call]
        copies = [value.expand(shape).clone() for value in values]
        result = call.on(copies)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise NotReplayableError(f"{node.op} failed: {str(error).splitlines()[0]}") from error
    first: torch.Tensor = result[0] if isinstance(result, (list, tuple)) else result
    return first
