"""The activation through which the input of each weight layer came, and its second moment."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from etastar.init.gains import Activation, gaussian_rule
from etastar.init.pointwise import (
    JoinedPartsError,
    NotReplayableError,
    PointwiseReplay,
    Root,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etastar.graph.dag import Graph, Node, Operand

__all__ = ["InputActivation", "input_activation"]

_MOST_PARTS = 128
"""Parts of concatenations that are measured one by one; more would cost time."""


@dataclass(frozen=True)
class InputActivation:
    """phi, the element-wise function that the input of one weight layer came through.

    Attributes:
        second_moment: E[phi(z)^2] with independent standard normal roots; 1 if not measured.
        phi: phi itself where it reads one variable and was measured, else None.
        problem: Why phi could not be measured; None if it was.
        notes: What was assumed on the way.
        roots: The independent variables that phi reads, as far as they are known.
    """

    second_moment: float
    phi: Activation | None
    problem: str | None = None
    notes: tuple[str, ...] = ()
    roots: tuple[Root, ...] = ()

    @property
    def gain(self) -> float:
        """G = 1 / E[phi^2]."""
        return 1 / self.second_moment


class _Measured(NamedTuple):
    moment: float
    phi: Activation | None


def input_activation(
    graph: Graph, layer: Node, *, parameters: Mapping[str, torch.Tensor] | None = None
) -> InputActivation:
    """Measure E[phi(z)^2] for what lies between a weight layer and its nearest ancestors.

    The walk goes back from the layer's data operand through element-wise operations, views and what
    moves values to other positions (padding, shuffles, rolls, gathers, upsampling), to the nearest
    weight layers, norms, residual additions, inputs or attention. Each is taken for an independent
    standard normal variable, and the recorded operations are replayed on quadrature points: an
    activation written by hand is measured like a named one. A concatenation, or a buffer filled in
    pieces, is the mean over its parts, weighted by size. Dropout is the identity. Pooling is taken
    to keep the second moment of what it pools, as it does where neighbours are alike, and so is
    interpolation; that, and what any other operation makes, is said in the notes.

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
        >>> graph = Graph((x, relu, layer), {"x": 0}, {"y": (2,)}, ("x",), (), {})
        >>> round(input_activation(graph, layer).gain, 10)
        2.0
    """
    operand = _data_operand(layer)
    if operand is None or (layer.weight and layer.weight.layer_type == "embedding"):
        return InputActivation(1.0, lambda x: x)
    replay = PointwiseReplay(graph, parameters or {})
    try:
        found = _measure(replay, operand)
        problem = None if 0 < found.moment < math.inf else f"its second moment is {found.moment}"
    except NotReplayableError as error:
        problem = str(error)
    if problem is not None:
        return InputActivation(1.0, None, problem, tuple(replay.notes))
    roots = tuple(replay.roots)
    return InputActivation(found.moment, found.phi, notes=tuple(replay.notes), roots=roots)


def _data_operand(layer: Node) -> Operand | None:
    weight = layer.weight.operand if layer.weight else None
    active = (o for k, o in enumerate(layer.operands) if k != weight and k not in layer.addends)
    return next((operand for operand in active if operand.producers), None)


def _measure(replay: PointwiseReplay, operand: Operand) -> _Measured:
    """E[phi^2]; of what was joined of parts the mean over these, weighted by size."""
    try:
        roots = replay.collect(operand)
    except JoinedPartsError as joined:
        return _mean_over_parts(replay, operand, joined)
    if len(roots) not in (1, 2):
        raise NotReplayableError(f"it joins {len(roots)} independent tensors; up to two are taken")
    moment = _expectation(replay, operand, roots)
    return _Measured(moment, _phi(replay, operand) if len(roots) == 1 else None)


def _mean_over_parts(
    replay: PointwiseReplay, operand: Operand, joined: JoinedPartsError
) -> _Measured:
    found = []
    for number in range(len(joined.parts)):
        replay.chosen[joined.key] = number
        replay.parts_taken += 1
        if replay.parts_taken > _MOST_PARTS:
            raise NotReplayableError(f"it joins more than {_MOST_PARTS} parts")
        found.append(_measure(replay, operand))
    del replay.chosen[joined.key]
    sizes = [math.prod(part.shape) for part in joined.parts]
    moment = sum(f.moment * s for f, s in zip(found, sizes, strict=True)) / sum(sizes)
    return _Measured(moment, found[0].phi if _are_alike([f.phi for f in found]) else None)


def _are_alike(functions: Sequence[Activation | None]) -> bool:
    """Whether all parts came through the same activation."""
    probe = torch.linspace(-2, 2, 9, dtype=torch.float64)
    values = [phi(probe) for phi in functions if phi is not None]
    return len(values) == len(functions) and all(torch.equal(v, values[0]) for v in values)


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
    own = replace(
        replay, chosen=dict(replay.chosen)
    )  # another part may be chosen when it is called

    def values(points: torch.Tensor) -> torch.Tensor:
        return own.evaluate(operand, lambda _: points.reshape(-1, 1, 1))

    if values(torch.ones(1, dtype=torch.float64)).shape[-1] != 1:
        return None
    return lambda points: values(points).reshape(-1).expand(points.numel()).reshape(points.shape)
