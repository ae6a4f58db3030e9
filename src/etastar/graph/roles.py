"""Role, fans and place of every parameter, read off the graph."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from etastar.graph.attention import attention_parts
from etastar.graph.contraction import Contraction, leading_to
from etastar.graph.dot_products import dot_products
from etastar.graph.node import Node, Operand, ParameterRecord, WeightUse
from etastar.graph.operations import affine_form, argument_of
from etastar.graph.residual import Branch, find_residuals
from etastar.graph.scaling import (
    NO_WIDTH,
    FeatureSizes,
    OwnMultipliers,
    laid_together,
    output_scalers,
    uncounted_before,
)
from etastar.parameter import ParamInfo, Role

_OF_STATE = ("weight_hh", "weight_hr")  # names in PyTorch's recurrent modules


def parameter_infos(
    nodes: Sequence[Node],
    records: Mapping[str, ParameterRecord],
    contraction: Contraction,
    layers: Contraction,
) -> tuple[ParamInfo, ...]:
    """Role, fan-in, fan-out, residual stream and sharing of every parameter; a tied one once.

    Fan-in is the number of terms that are summed into one output unit: of a convolution
    (channels / groups) x kernel size, of a transposed one (channels / groups) x the taps that reach
    an output (kernel size / stride, the mean over positions), of a table that is looked up 1.

    Args:
        nodes: The nodes of a graph.
        records: Every parameter of the model by name.
        contraction: The counted nodes, from the data inputs: streams and branches are read off it.
        layers: The same from the data inputs and the conditions: first and last layers, and what
            lies beside what.

    Reference:
        [TP5] arXiv 2203.03466, Table 3 (roles); [AM] arXiv 2510.04327 (branches).
    """
    roles = _Roles(nodes, contraction, layers, records)
    return tuple(roles.info(name, record) for name, record in records.items())


@dataclass(frozen=True, slots=True)
class _Use:
    """One operation that consumes a parameter, and as which argument."""

    node: Node
    operand: Operand
    argument: str
    is_weight: bool

    def held(self, name: str) -> WeightUse | None:
        """How the parameter acted as a weight on learned queries, before this operation."""
        return next((use for use in self.operand.weights if name in use.parameters), None)


def _with_conditions(contraction: Contraction, layers: Contraction) -> tuple[Branch, ...]:
    """The branches, with the layers on them that read nothing but a condition."""
    found = find_residuals(contraction)
    if layers is contraction:
        return found
    wide = {branch.addition: branch.positions for branch in find_residuals(layers)}
    read = {node.node for node in contraction.counted}
    return tuple(
        replace(
            branch,
            positions={
                **{n: at for n, at in wide.get(branch.addition, {}).items() if n not in read},
                **branch.positions,
            },
        )
        for branch in found
    )


class _Roles:
    def __init__(
        self,
        nodes: Sequence[Node],
        contraction: Contraction,
        layers: Contraction,
        records: Mapping[str, ParameterRecord],
    ) -> None:
        self.nodes = nodes
        shapes = {name: record.shape for name, record in records.items()}
        trained = {name: shapes[name] for name, one in records.items() if not one.is_quantized}
        branches = _with_conditions(contraction, layers)
        self.places: dict[int, tuple[Branch, ...]] = defaultdict(tuple)  # the innermost first
        for branch in branches:
            for member in branch.positions:
                self.places[member] += (branch,)
        self.first, self.final = _ends(layers)
        self.before, self.after = _neighbours(nodes, {node.node for node in layers.counted})
        self.sizes = FeatureSizes(nodes, (branch.addition for branch in branches), shapes)
        ends = {branch.addition for branch in branches if branch.stream is not None}
        self.dots = dot_products(nodes, self.sizes.consumers, self.before)
        read = (layer for dot in self.dots for layer in self.before[dot])
        self.final -= leading_to(layers.counted, read)
        self.attention = attention_parts(nodes, self.sizes.consumers)
        self.multipliers = OwnMultipliers(nodes, self.sizes.consumers, ends)
        self.uses: dict[str, list[_Use]] = defaultdict(list)
        for node in nodes:
            for position, operand in enumerate(node.operands):
                for name in operand.parameters:
                    held = node.weight.parameters if node.weight is not None else ()
                    self.uses[name].append(
                        _Use(node, operand, argument_of(node, position), name in held)
                    )
        shared = {name for name, uses in self.uses.items() if len(uses) > 1}
        self.scalers = {
            branch.addition: output_scalers(nodes, branch, self.before, shared, trained)
            for branch in branches
        }
        for branch in branches:  # also a gain on a branch beside what is of the stream alone
            for scaler in self.scalers[branch.addition]:
                whole = () if branch.last else uncounted_before(nodes, nodes[scaler], self.before)
                for member in {scaler, *(node.index for node in whole)} - self.places.keys():
                    self.places[member] = (branch,)

    def info(self, name: str, record: ParameterRecord) -> ParamInfo:
        """The record of one parameter."""
        uses = self.uses[name]
        weights = [use for use in uses if use.is_weight]
        if not uses:
            return replace(_unused(name, record), no_decay=record.no_decay)
        first = (weights or uses)[0]
        if weights:
            info = self._weight(name, record, weights)
        elif (acting := first.held(name)) is not None:
            info = _acting(name, record, acting)
        else:
            info = self._vector(name, record, first)
        info = self._placed(self._of_layer(info, first), first)
        is_added = info.role == "bias" or (info.role == "embedding" and not first.is_weight)
        own = self.multipliers.of(first.node, is_bias=is_added)
        is_behind = info.is_weight and not is_added
        before = self.multipliers.before(first.node) if is_behind else 1.0
        info = replace(info, aliases=record.aliases, no_decay=record.no_decay, own_before=before)
        shapes = [self.sizes.shapes[held] for held in first.operand.parameters]
        stored = _stored(info, first, own, shapes)
        return replace(info, attention=self.attention.get(name), **stored)

    def _vector(self, name: str, record: ParameterRecord, use: _Use) -> ParamInfo:
        """A parameter that is not contracted: a gain, a bias, or a table that is added."""
        size, layer = math.prod(record.shape), self._layer_behind(use)
        if terms := self.dots.get(use.node.index):
            role: Role = "hidden" if self.after[use.node.index] else "output"
            return ParamInfo(name, record.shape, role, terms, size // terms, features_out=NO_WIDTH)
        is_table = len(record.shape) >= 2 and size > max(record.shape)
        is_table = is_table and not all(_is_row(each) for each in self.uses[name])
        of_experts = self.sizes.is_of_experts(record.shape, layer)
        is_gain = _is_gain(use) and not use.operand.weights
        makes_none = not is_gain and self._makes_no_features(layer)
        features = size
        weight = use.node.weight
        if weight is not None and weight.layer_type == "recurrent":
            return ParamInfo(name, record.shape, "bias", 1, size, features_out=size)
        if not use.operand.weights:
            features = self.sizes.of_vector(use.node, use.operand, is_output=makes_none)
        if of_experts:
            features = record.shape[-1]
        elif use.operand.parameters != (name,) and features not in (size, *record.shape):
            shapes = [self.sizes.shapes[other] for other in use.operand.parameters]
            is_joined = len(shapes) > 1 and {record.shape} == {*shapes} and features > size > 1
            features = size if is_joined else NO_WIDTH  # one number, beside others for all features
        if is_table and not of_experts and not is_gain:
            columns = record.shape[-1] if features else 0
            return ParamInfo(
                name, record.shape, "embedding", 1, record.shape[-1], features_out=columns
            )
        role = "norm" if is_gain else "bias"
        return ParamInfo(name, record.shape, role, 1, size, features_out=features)

    def _makes_no_features(self, layer: int | None) -> bool:
        """Whether what a weight layer makes is classes, experts or a rank."""
        weight = self.nodes[layer].weight if layer is not None else None
        if layer is None or weight is None:
            return False
        made = self.sizes.of_weight(self.nodes[layer], weight, is_output=layer in self.final)[1]
        return made == NO_WIDTH

    def _weight(self, name: str, record: ParameterRecord, uses: list[_Use]) -> ParamInfo:
        use = uses[0].node.weight
        assert use is not None
        role = self._role(uses)
        features: tuple[int, ...] = self.sizes.of_weight(
            uses[0].node, use, is_output=role == "output"
        )
        every = [math.prod(self.sizes.shapes[held]) for held in use.parameters]
        size = math.prod(record.shape)
        is_least = len(every) > 1 and size == min(every)  # of one row the direction is a vector too
        if is_least and size == max(record.shape):  # the magnitude of a weight-normalized layer
            read = features[0] if role == "output" else None
            return ParamInfo(
                name, record.shape, "norm", 1, size, features_in=read, features_out=features[1]
            )
        if use.layer_type == "recurrent":
            fans = _own_fans(record.shape)  # of all gates together
            of_state = role == "input" and name.rpartition(".")[2].startswith(_OF_STATE)
            role = "hidden" if of_state else role
            return ParamInfo(
                name, record.shape, role, *fans, features_in=fans[0], features_out=fans[1]
            )
        held = uses[0].node.operands[use.operand].shape
        one = self.sizes.of_one_expert(uses[0].node, use)
        fans = (use.fan_in, use.fan_out) if use.features else one
        is_part = math.prod(held) != math.prod(record.shape) and len(held) == len(record.shape)
        is_chosen = is_part and len(held) == 3 and held[1:] == record.shape[1:]  # experts
        shapes = [self.sizes.shapes[n] for n in use.parameters]
        share = _share_of_outputs(record.shape, shapes, held, (use.features or one)[1])
        if is_part and share is not None:
            fans = use.fan_in, round(share * use.fan_out)
            features = features[0], round(share * features[1])
        elif is_part and not is_chosen and len(shapes) > 1:
            fans = _own_fans(record.shape)  # of a factor, a size that the weight lacks is a rank
            features = tuple(size if size in held else NO_WIDTH for size in fans)
        read, made = features
        return ParamInfo(name, record.shape, role, *fans, features_in=read, features_out=made)

    def _role(self, uses: list[_Use]) -> Role:
        types = {use.node.weight.layer_type for use in uses if use.node.weight is not None}
        if "embedding" in types:
            return "embedding"
        if any(use.node.index in self.final for use in uses):
            return "output"
        return "input" if any(use.node.index in self.first for use in uses) else "hidden"

    def _of_layer(self, info: ParamInfo, use: _Use) -> ParamInfo:
        """Layer type and kernel of the weight layer that consumed it, or that it is a bias of."""
        weight = use.node.weight
        layer = self._layer_behind(use)
        if weight is None and info.role == "bias" and layer is not None:
            weight = self.nodes[layer].weight
        if weight is None:
            return info
        return replace(info, layer_type=weight.layer_type, kernel_size=weight.kernel_size)

    def _layer_behind(self, use: _Use) -> int | None:
        """The weight layer whose output the operation changes, if it is the only one."""
        if use.node.weight is not None:
            return use.node.index
        if use.node.kind == "norm" or use.operand.weights:
            return None
        before = self.before[use.node.index]
        if len(before) == 1:
            (node,) = before
            return node if self.nodes[node].weight is not None else None
        return None

    def _placed(self, info: ParamInfo, use: _Use) -> ParamInfo:
        places = self._places(use)
        if not places:
            return info
        inner = [place for place in places if place.stream is not None]
        branch = (inner or places)[0]
        layer = self._layer_behind(use) if info.role == "bias" or use.is_weight else None
        is_stream = branch.stream is not None
        return replace(
            info,
            stream=branch.stream,
            stream_additions=branch.stream_additions,
            branch=branch.index if is_stream else None,
            branch_position=branch.positions.get(layer) if layer is not None else None,
            branch_length=branch.length,
            branch_last=layer in branch.last,
            branch_scale=is_stream and use.node.index in self.scalers[branch.addition],
            branch_fan=branch.fan,
            branches=tuple(dict.fromkeys((b.stream or 0, b.index) for b in inner)),
        )

    def _places(self, use: _Use) -> tuple[Branch, ...]:
        """Branches of the operation: its own, or those that all layers after or before it share."""
        if use.node.index in self.places:
            return self.places[use.node.index]
        for neighbours in (self.after[use.node.index], self.before[use.node.index]):
            first, *others = [self.places.get(node, ()) for node in neighbours] or [()]
            shared = {b.addition for b in first}.intersection(
                *({b.addition for b in other} for other in others)
            )
            if shared:
                return tuple(branch for branch in first if branch.addition in shared)
        return ()


def _ends(contraction: Contraction) -> tuple[set[int], set[int]]:
    """Layers that read nothing but data, and layers that no other layer reads."""
    sources = set(contraction.sources.values())
    first = {n.node for n in contraction.counted if sources.issuperset(n.predecessors)}
    layers = (n for n in contraction.counted if n.counted_as == "weight layer")
    leads_on = leading_to(contraction.counted, (p for n in layers for p in n.predecessors))
    return first, {n.node for n in contraction.counted} - leads_on


def _neighbours(
    nodes: Sequence[Node], counted: set[int]
) -> tuple[list[frozenset[int]], list[frozenset[int]]]:
    """Nearest counted nodes (or inputs) before each node, and counted nodes after it."""
    before: list[frozenset[int]] = []
    for node in nodes:
        found: frozenset[int] = frozenset()
        for producer in node.inputs:
            is_end = producer in counted or nodes[producer].kind == "input"
            found |= {producer} if is_end else before[producer]
        before.append(found)
    after: list[frozenset[int]] = [frozenset()] * len(nodes)
    for node in reversed(nodes):
        reach = frozenset((node.index,)) if node.index in counted else after[node.index]
        for producer in node.inputs:
            after[producer] |= reach
    return before, after


def _acting(name: str, record: ParameterRecord, use: WeightUse) -> ParamInfo:
    """A weight that acts on learned queries: what it reads is an activation all the same."""
    read, made = use.features or (use.fan_in, use.fan_out)
    return ParamInfo(
        name,
        record.shape,
        "hidden",
        use.fan_in,
        use.fan_out,
        layer_type=use.layer_type,
        kernel_size=use.kernel_size,
        features_in=read,
        features_out=made,
    )


def _stored(
    info: ParamInfo, use: _Use, own: float, shapes: Sequence[tuple[int, ...]]
) -> dict[str, Any]:
    """How a factor reaches what the network makes of w: own a (w + c), or not at all."""
    form = affine_form(use.operand.steps)
    if use.operand.carrier:
        carries = use.operand.carrier == info.name
        scales = info.branch_scale and carries
        return {"affine": carries, "branch_scale": scales, "own_multiplier": own}
    if form is None:
        joined = len(shapes) > 1
        affine = joined and () not in shapes and laid_together(shapes, use.operand.shape)
        scales = info.branch_scale and joined
        return {"affine": affine, "branch_scale": scales, "own_multiplier": own}
    slope, offset = form
    return {"gain_offset": offset / slope, "own_multiplier": own * abs(slope)}


def _is_gain(use: _Use) -> bool:
    if use.node.kind == "norm":
        return use.argument != "bias"
    return use.node.name in ("mul", "div")


def _is_row(use: _Use) -> bool:
    """Whether a sum reads one vector alone of what it is a slice of: the bias of one layer."""
    is_summed = use.node.addends or use.node.weight is not None or use.argument == "bias"
    return bool(is_summed) and len(use.operand.shape) == 1


def _share_of_outputs(
    one: tuple[int, ...], every: Sequence[tuple[int, ...]], held: tuple[int, ...], made: int
) -> float | None:
    """Part of a layer's outputs that one of several concatenated weights makes; else None.

    One that reads a part of the inputs alone is summed with the others: it has the layer's sizes.
    """
    for axis in (0, 1) if len(every) > 1 else ():
        joined = sum(shape[axis] for shape in every)
        wholes = {(*shape[:axis], joined, *shape[axis + 1 :]) for shape in every}
        if wholes in ({held}, {held[::-1]} if len(held) == 2 else {held}):
            return one[axis] / joined if joined == made else 1.0
    return None


def _own_fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fans of a factor of the weight, or of stacked gates, from its own shape (out, in, ...)."""
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _unused(name: str, record: ParameterRecord) -> ParamInfo:
    shape, is_vector = record.shape, len(record.shape) < 2
    role: Role = "bias" if is_vector else "hidden"
    fans = (1, math.prod(shape)) if is_vector else _own_fans(shape)
    return ParamInfo(name, shape, role, *fans, aliases=record.aliases)
