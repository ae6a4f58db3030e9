"""The activation through which the input of each weight layer came, and its second moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from etastar.init.gains import Activation, gaussian_rule
from etastar.init.pointwise import NotReplayableError, PointwiseReplay, Root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etastar.graph.dag import Graph, Node, Operand

__all__ = ["InputActivation", "input_activation"]


@dataclass(frozen=True)
class InputActivation:
    """phi, the element-wise function that the input of one weight layer came through.

    Attributes:
        second_moment: E[phi(z)^2] with independent standard normal roots; 1 if not measured.
        phi: phi itself where it reads one variable and was measured, else None.
        problem: Why phi could not be measured; None if it was.
        notes: What was assumed on the way.
    """

    second_moment: float
    phi: Activation | None
    problem: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        """G = 1 / E[phi^2]."""
        return 1 / self.second_moment


def input_activation(
    graph: Graph, layer: Node, *, parameters: Mapping[str, torch.Tensor] | None = None
) -> InputActivation:
    """Measure E[phi(z)^2] for what lies between a weight layer and its nearest ancestors.

    The walk goes back from the layer's data operand through element-wise operations and views, to
    the nearest weight layers, norms, residual additions, inputs or mixing operations. Each is
    taken for an independent standard normal variable, and the recorded operations are replayed on
    quadrature points: an activation written by hand is measured like a named one. A concatenation
    is the mean over its parts, weighted by size. Dropout is the identity.

    Args:
        graph: The captured graph.
        layer: One of its weight layers.
        parameters: Current values by canonical name, for slopes that are learned (PReLU).

    Returns:
        The activation. Where it cannot be measured (more than two roots, an unknown constant) the
        second moment is 1 and `problem` says why.

    Example:
        >>> from etastar.graph.dag import *
        >>> call = Call(torch.ops.aten.relu.default, (Slot(0),), {})
        >>> x = Node(0, "input", "input", "", (), (4, 8), "torch.float32")
        >>> read = (Operand((0,), (), (4, 8)),)
        >>> relu = Node(1, "aten.relu.default", "activation", "", read, (4, 8), "f", call=call)
        >>> use = WeightUse("linear", ("w",), 8, 8)
        >>> operands = (Operand((1,), (), (4, 8)), Operand((), ("w",), (8, 8)))
        >>> layer = Node(2, "aten.mm.default", "weight layer", "", operands, (4, 8), "f", use)
        >>> graph = Graph((x, relu, layer), {"x": 0}, {"y": (2,)}, ("x",), {})
        >>> round(input_activation(graph, layer).gain, 10)
        2.0
    """
    operand = _data_operand(layer)
    if operand is None or (layer.weight and layer.weight.layer_type == "embedding"):
        return InputActivation(1.0, lambda x: x)
    replay = PointwiseReplay(graph, parameters or {})
    try:
        moment, num_roots = _second_moment(replay, operand)
        problem = None if 0 < moment < math.inf else f"its second moment is {moment}"
    except NotReplayableError as error:
        problem = str(error)
    if problem is not None:
        return InputActivation(1.0, None, problem, tuple(replay.notes))
    phi = _phi(replay, operand) if num_roots == 1 else None
    return InputActivation(moment, phi, notes=tuple(replay.notes))


def _data_operand(layer: Node) -> Operand | None:
    weight = layer.weight.operand if layer.weight else None
    active = (o for k, o in enumerate(layer.operands) if k != weight and k not in layer.addends)
    return next((operand for operand in active if operand.producers), None)


def _second_moment(replay: PointwiseReplay, operand: Operand) -> tuple[float, int]:
    parts = _concatenated(replay, operand)
    if parts:
        moments = [_second_moment(replay, part) for part in parts]
        sizes = [math.prod(part.shape) for part in parts]
        mean = sum(m * s for (m, _), s in zip(moments, sizes, strict=True)) / sum(sizes)
        return mean, max(2, *(n for _, n in moments))
    roots = replay.collect(operand)
    if len(roots) not in (1, 2):
        raise NotReplayableError(f"it joins {len(roots)} independent tensors; up to two are taken")
    return _expectation(replay, operand, roots), len(roots)


def _concatenated(replay: PointwiseReplay, operand: Operand) -> tuple[Operand, ...]:
    """The parts of a concatenation that `operand` is a view of; () if it is none."""
    while len(operand.producers) == 1:
        node = replay.graph.nodes[operand.producers[0]]
        active = tuple(o for o in node.operands if o.producers)
        if node.op.startswith("aten.cat."):
            return active
        if node.kind != "view" or len(active) != 1 or len(active[0].producers) != 1:
            return ()
        if math.prod(node.shape) < math.prod(replay.graph.nodes[active[0].producers[0]].shape):
            return ()
        operand = active[0]
    return ()


def _expectation(replay: PointwiseReplay, operand: Operand, roots: tuple[Root, ...]) -> float:
    """E[phi^2] over the product of one rule for each root; slopes by channel are averaged."""
    rule = gaussian_rule(len(roots))
    points = {
        root: rule.points.reshape([-1 if axis == i else 1 for axis in range(3)])
        for i, root in enumerate(roots)
    }
    with torch.no_grad():
        values = replay.evaluate(operand, lambda root: points[root])
    moments = (values**2).mean(dim=-1)
    if len(roots) == 1:
        return rule.mean(moments[:, 0].expand(len(rule.points)))
    square = moments.expand(len(rule.points), len(rule.points))
    return float(rule.weights @ square @ rule.weights)


def _phi(replay: PointwiseReplay, operand: Operand) -> Activation | None:
    """Phi as a function of one tensor; None if it has several slopes."""

    def values(points: torch.Tensor) -> torch.Tensor:
        return replay.evaluate(operand, lambda _: points.reshape(-1, 1, 1))

    if values(torch.ones(1, dtype=torch.float64)).shape[-1] != 1:
        return None
    return lambda points: values(points).reshape(-1).expand(points.numel()).reshape(points.shape)
