"""How parameters scale: which of their sizes are widths, which factors are on what they make.

Widths are feature dimensions of an activation between two layers. The rank of an adapter, the
number of experts, heads, classes or layers is a size too, and none. Factors are those that a
network itself has (1/L on branches), and where a branch multiplier can be put.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from etastar.graph.node import Node, Operand, Slot, WeightUse, reached
from etastar.graph.operations import COPIES, POOLED, REARRANGED, affine_form
from etastar.graph.residual import Branch

NO_WIDTH = 0

_LINEAR = COPIES | {"native_dropout", "dropout", "mul", "div"}
_STACKED = 3  # dimensions of (experts, in, out)
_SELECTING = frozenset(("_softmax", "softmax", "topk", "_safe_softmax"))
_TO_SELECTION = _LINEAR | {"sigmoid", "add", "sub"}
_HOMOGENEOUS = frozenset(
    "add sub neg native_dropout relu leaky_relu sum cat stack index_add slice_scatter".split()
).union(COPIES, REARRANGED, POOLED)
"""Operations with f(m x) = m f(x) for every m > 0."""
_SCALING = frozenset(("mul", "div"))
_PRODUCTS = _SCALING | {"mm", "bmm"}


class FeatureSizes:
    """Finds the features that a weight reads and makes, and that a vector belongs to.

    Args:
        nodes: The nodes of a graph.
        added: Its residual additions.
        shapes: Shape of every parameter.
    """

    def __init__(
        self, nodes: Sequence[Node], added: Iterable[int], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.nodes, self.shapes = nodes, shapes
        self.streams = {size for i in added for size in nodes[i].shape[1:]}  # their features
        self.consumers: dict[int, list[int]] = {node.index: [] for node in nodes}
        for node in nodes:
            for producer in node.inputs:
                self.consumers[producer].append(node.index)
        seconds = (self._second_factor(node) for node in nodes if node.weight is not None)
        self.second_factors = {node.index for node in seconds if node is not None}

    def of_weight(self, node: Node, use: WeightUse, *, is_output: bool) -> tuple[int, int]:
        """Features that a weight layer reads and makes, `NO_WIDTH` where the size is no width.

        Where no other layer reads it (`is_output`), it makes classes.
        """
        read, made = self.of_one_expert(node, use)
        is_first = self._second_factor(node, (read, made)) is not None
        makes_none = is_output or is_first or self._selects(node)
        is_second = node.index in self.second_factors
        return NO_WIDTH if is_second else read, NO_WIDTH if makes_none else made

    def of_one_expert(self, node: Node, use: WeightUse) -> tuple[int, int]:
        """Features that a weight layer reads and makes; of (experts, in, out) those of one expert.

        Two such weights in a row, with no attention between them, are experts: `bti,eio->bteo`
        makes what `bteo,eoi->btei` reads. Heads look the same, but for the attention; functions on
        the edges of a graph (KAN, `big,oig->bo`) too, but that one reads more than the one before
        makes.
        """
        read, made = _features(use)
        experts, *sizes = self._stacked(node) or (1,)
        if read not in sizes and read // experts in sizes:
            makers = self._beside(node, lambda other: other.inputs)
            read //= experts if any(_features(maker)[1] >= read for maker in makers) else 1
        if made not in sizes and made // experts in sizes:
            readers = self._beside(node, lambda other: self.consumers[other.index])
            made //= experts if any(_features(reader)[0] <= made for reader in readers) else 1
        return read, made

    def _stacked(self, node: Node) -> tuple[int, ...]:
        """Shape of a weight with a dimension of experts or heads in front; a kernel has none."""
        is_kernel = node.weight is None or node.weight.layer_type == "convolution"
        names = node.weight.parameters if node.weight is not None and not is_kernel else ()
        shape = self.shapes[names[0]] if len(names) == 1 else ()
        return shape if len(shape) == _STACKED else ()

    def _beside(
        self, node: Node, following: Callable[[Node], Sequence[int]]
    ) -> Iterator[WeightUse]:
        """The next layers with as many experts, no attention in between."""

        def onward(other: Node) -> Sequence[int]:
            is_end = other.weight is not None or other.kind == "attention contraction"
            return () if is_end else following(other)

        experts = self._stacked(node)[:1]
        beside = reached(self.nodes, following(node), onward)
        alike = (other.weight for other in beside if self._stacked(other)[:1] == experts)
        return (weight for weight in alike if weight is not None)

    def is_of_experts(self, shape: tuple[int, ...], layer: int | None) -> bool:
        """Whether a table of that shape is a bias for each expert of the layer it is added to."""
        held = () if layer is None else self._stacked(self.nodes[layer])
        return bool(held) and len(shape) == _STACKED - 1 and shape in (held[:2], held[::2])

    def of_vector(self, node: Node, operand: Operand, *, is_output: bool) -> int:
        """Features that a bias, gain or added table belongs to, as the operation read it.

        `NO_WIDTH` for one number for all features, or one a layer, head or class; and for the bias
        of a layer that makes no features (`is_output`).
        """
        size = math.prod(operand.shape)
        if is_output or size == 1:
            return NO_WIDTH
        if node.weight is not None:
            return size  # a bias within the layer, behind whatever that reads
        is_of_heads = operand.shape[-1:] != node.shape[-1:] or operand.shape[-2:] == node.shape[-2:]
        return NO_WIDTH if is_of_heads and self._heads(node) else size

    def _heads(self, node: Node) -> bool:
        """Whether it works on what an attention made, before any weight layer."""

        def onward(maker: Node) -> Sequence[int]:
            return maker.inputs if maker is node or maker.kind in ("view", "other") else ()

        makers = reached(self.nodes, (node.index,), onward)
        return any(maker.kind == "attention contraction" for maker in makers)

    def _selects(self, node: Node) -> bool:
        """Whether its outputs are chances of experts or classes: a softmax or choice reads them."""

        def onward(reader: Node) -> Sequence[int]:
            passes = reader.kind == "view" or reader.name in _TO_SELECTION
            return self.consumers[reader.index] if passes and len(reader.inputs) == 1 else ()

        readers = reached(self.nodes, self.consumers[node.index], onward)
        return any(reader.name in _SELECTING for reader in readers)

    def _second_factor(self, node: Node, sizes: tuple[int, int] | None = None) -> Node | None:
        """The second of two factors of a matrix of low rank, of which a weight layer is the first.

        It alone reads the first one, with nothing but constant factors in between.
        """
        first, second = node.weight, None
        while first is not None and second is None and len(self.consumers[node.index]) == 1:
            node = self.nodes[self.consumers[node.index][0]]
            second = node.weight
            if second is None and not self._is_linear(node):
                break
        if first is None or second is None or "linear" != first.layer_type != second.layer_type:
            return None
        read, made = sizes or _features(first)
        inner, outer = _features(second)
        return node if made == inner < min(read, outer) and made not in self.streams else None

    def _is_linear(self, node: Node) -> bool:
        if sum(len(operand.producers) for operand in node.operands) != 1 or node.parameters:
            return False
        return node.kind == "view" or node.name in _LINEAR


def _features(use: WeightUse) -> tuple[int, int]:
    return use.features or (use.fan_in, use.fan_out)


@dataclass(frozen=True)
class OwnMultipliers:
    """Finds the numbers that lie between a parameter and what reads the layer next.

    Only numbers of the program count, `x * 0.5`, `x / 4` and `add(x, y, alpha=0.5)`; what is
    learned is a parameter, and the values of other tensors (a mask that was drawn) are not known.

    Attributes:
        nodes: The nodes of a graph.
        consumers: Nodes that read each node.
        ends: Additions of residual streams.
    """

    nodes: Sequence[Node]
    consumers: Mapping[int, Sequence[int]]
    ends: Container[int]

    def of(self, node: Node, *, is_bias: bool) -> float:
        """Factor on what a parameter makes, which the operation `node` consumes.

        The product of the factors behind the operation and, but for a bias, before it: those
        between two layers belong to the earlier one. 1 where a norm absorbs them, a tensor that is
        neither data nor a parameter takes part, or they scale an attention's scores.
        """
        if node.kind == "attention contraction":
            return 1.0
        behind = self._behind(node.index)
        return behind if is_bias else behind * self.before(node)

    def _behind(self, index: int) -> float:
        factor = 1.0
        while len(self.consumers[index]) == 1:
            reader = self.nodes[self.consumers[index][0]]
            if reader.kind == "norm" or _has_unknown_factor(reader):
                return 1.0
            if reader.weight is not None or not _is_homogeneous(reader):
                break
            factor *= constant_factor(reader, index)
            if reader.index in self.ends:
                break
            index = reader.index
        return factor

    def before(self, node: Node) -> float:
        """The part of it before the operation."""
        is_layer = node.weight is not None
        factor, inputs = 1.0, () if node.kind == "norm" else node.inputs
        while len(inputs) == 1:
            maker = self.nodes[inputs[0]]
            if (is_layer and maker.weight is not None) or _has_unknown_factor(maker):
                return 1.0
            if maker.weight is not None or maker.index in self.ends or not _is_homogeneous(maker):
                break
            inputs = maker.inputs
            factor *= constant_factor(maker, inputs[0]) if inputs else 1.0
        return factor


def _is_homogeneous(node: Node) -> bool:
    return node.kind == "view" or node.name in _HOMOGENEOUS | _SCALING


def _has_unknown_factor(node: Node) -> bool:
    return node.name in _SCALING and any(not (o.producers or o.parameters) for o in node.operands)


def constant_factor(node: Node, producer: int) -> float:
    """The number by which a node multiplies one of its inputs; without the sign."""
    if node.call is None or len(node.call.args) < 2:
        return 1.0
    first, second = node.call.args[:2]
    if node.name in ("add", "sub") and isinstance(second, Slot):
        is_scaled = producer in node.operands[second.operand].producers
        number, power = node.call.kwargs.get("alpha", 1) if is_scaled else 1, 1
    else:
        number, power = second, {"mul": 1, "div": -1}.get(node.name, 0)
    known = isinstance(first, Slot) and isinstance(number, (int, float)) and number != 0
    return abs(float(number)) ** power if known and math.isfinite(number) else 1.0


def output_scalers(
    nodes: Sequence[Node],
    branch: Branch,
    before: Sequence[frozenset[int]],
    shared: Container[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> frozenset[int]:
    """Nodes whose parameters, all multiplied by m > 0, multiply the branch's output by m.

    They are the last weight layers (with their biases), or the gains and shifts behind them (of a
    branch without layers: behind its pooling); none where an operation in between does not pass a
    factor on, a norm without gain absorbs it (of the weight itself, too), the stream itself is
    gated, or streams are coupled.

    Args:
        nodes: The nodes of the graph.
        branch: A branch of it.
        before: Nearest counted nodes before each node.
        shared: Parameters that several operations read: the gains of all layers in one tensor.
        shapes: Shape of every parameter that can be trained; no factor is put on another.

    Reference:
        [TP6] arXiv 2310.02244 and [CP] arXiv 2505.01618 put a multiplier on each branch's output.
    """
    if branch.is_gated or branch.is_coupled:
        return frozenset()
    walk = _Walk(nodes, branch, before, shared, shapes)
    return walk.union(nodes[branch.addition].inputs) or frozenset()


def uncounted_before(
    nodes: Sequence[Node], node: Node, before: Sequence[frozenset[int]]
) -> Iterator[Node]:
    """The node, and those that it was made of since the nearest counted ones."""

    def onward(maker: Node) -> Sequence[int]:
        return [n for n in maker.inputs if n not in before[node.index]]

    return reached(nodes, (node.index,), onward)


def laid_together(parts: Sequence[tuple[int, ...]], made: tuple[int, ...]) -> bool:
    """Whether a factor on all parameters of a weight is one on it: they lie side by side in it.

    A gain of the direction beside it too; no product or sum of matrices.

    Example:
        >>> laid_together([(8, 16), (2, 16)], (10, 16)), laid_together([(16, 8), (8, 16)], (16, 16))
        (True, False)
    """
    least = min(map(math.prod, parts), default=0)
    parts = [p for p in parts if not least == math.prod(p) == max(p, default=1)]  # no gains
    if not parts or sum(map(math.prod, parts)) != math.prod(made):
        return False
    return len({*map(len, parts)}) == 1 and sum(len({*n}) > 1 for n in zip(*parts, strict=True)) < 2


@dataclass
class _Walk:
    """Backwards from the addition to what scales the branch; None where a factor is lost."""

    nodes: Sequence[Node]
    branch: Branch
    before: Sequence[frozenset[int]]
    shared: Container[str]
    shapes: Mapping[str, tuple[int, ...]]
    known: dict[int, frozenset[int] | None] = field(default_factory=dict)

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
        ends = self.branch.last | self.branch.inner
        is_behind = bool(self.before[node.index] & ends) if ends else self._is_mixed(node)
        if node.index in self.branch.last:
            return frozenset((node.index,)) if self._carries(node) else None
        if is_behind and self._is_gain(node):
            return frozenset((node.index,))
        if node.index in self.branch.positions and node.index not in self.branch.inner:
            return None
        if not is_behind:
            return frozenset()
        if node.name in _PRODUCTS and len(node.inputs) > 1:
            return self._product(node)
        if node.kind == "norm" or not _is_homogeneous(node):
            return None
        found = self.union(node.inputs)
        is_own = bool(node.parameters) and node.name not in _SCALING
        own = frozenset((node.index,) if is_own else ())
        return None if found is None else found | own

    def _is_mixed(self, node: Node) -> bool:
        """Whether positions were mixed (pooled, say) since the nodes that are counted before it."""
        return any(maker.mixes for maker in uncounted_before(self.nodes, node, self.before))

    def _carries(self, layer: Node) -> bool:
        """Whether its output takes a factor on all that makes its weight.

        So it is of a w + c, parts side by side, and gain and direction. Of a weight that is
        normalized, masked, quantized or bent no factor on the parameter is known.
        """
        assert layer.weight is not None
        held = layer.operands[layer.weight.operand]
        if held.carrier or not self.shapes.keys() >= {*held.parameters}:
            return True
        if len(held.parameters) == 1:
            return affine_form(held.steps) is not None
        return laid_together([self.shapes[name] for name in held.parameters], held.shape)

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
        """Whether they read what scales, or another use of its parameters."""
        first = min({*scalers, *self.branch.positions})
        names = {name for index in scalers for name in self.nodes[index].parameters}
        before = reached(self.nodes, producers, lambda n: n.inputs if n.index > first else ())
        return any(node.index in scalers or names & {*node.parameters} for node in before)

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
