"""E[phi(z)^2], z ~ N(0, 1): of a function, and of what the input of a weight layer came through."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from etastar.graph.dag import Graph
from etastar.graph.node import Node, Operand
from etastar.init.pointwise import JoinedPartsError, NotReplayableError, PointwiseReplay, Root

Activation = Callable[[torch.Tensor], torch.Tensor]
"""An element-wise function of one tensor."""


@cache
def gaussian_rule(num_variables: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and weights, float64, of the rule for E[f(z)]: for each of one or two variables.

    A composite Gauss-Legendre rule: plain Gauss-Hermite converges like 1/points where f has a kink.
    Panels whose edges lie on the multiples of 0.5 put the kinks of the usual activations (0, 0.5,
    1, 3, 6) on an edge, where they cost nothing. Around 0 the panels are halved, for functions that
    change fast there, as phi(sqrt(q) z) does for a large q. The line is cut at 12; P(|z| > 12) is
    4e-33.

    One variable: 864 points, 1e-12 for smooth functions and for kinks at multiples of 0.5. Two:
    144 points each, so that their product stays small; 1e-9 for smooth functions. It is the same
    object at every call: do not write to its tensors.

    Example:
        >>> points, weights = gaussian_rule()
        >>> round(float(weights @ points**4), 10), len(gaussian_rule(2)[0])
        (3.0, 144)
    """
    edge, panel, order, halvings = (12.0, 0.5, 12, 12) if num_variables == 1 else (9.0, 1.0, 8, 0)
    nodes, node_weights = np.polynomial.legendre.leggauss(order)
    inner = panel * 0.5 ** np.arange(1, halvings + 1)
    edges = np.sort([*np.arange(-edge, edge + panel / 2, panel), *inner, *-inner])
    starts, widths = edges[:-1, None], np.diff(edges)[:, None]
    points = (starts + widths * (nodes[None, :] + 1) / 2).ravel()
    lengths = (widths * node_weights[None, :] / 2).ravel()
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    return torch.from_numpy(points), torch.from_numpy(lengths * density)


def gaussian_mean(values: torch.Tensor) -> float:
    """E[f(z)] from f at the points of `gaussian_rule()`."""
    return float((gaussian_rule()[1] * values).sum())


def second_moment(activation: Activation, *, variance: float = 1.0) -> float:
    """E[phi(sqrt(q) z)^2], z ~ N(0, 1); at q = 1 one over the gain of He initialization [AM].

    To 1e-12 for smooth functions; kinks away from multiples of sqrt(q) / 2 leave about 1e-4.

    Example:
        >>> round(second_moment(torch.relu), 10)
        0.5
    """
    with torch.no_grad():
        return gaussian_mean(activation(math.sqrt(variance) * gaussian_rule()[0]) ** 2)


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
        >>> from etastar.graph.capture import capture_graph
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(8, 8))
        >>> graph = capture_graph(model, torch.ones(4, 8))
        >>> round(input_activation(graph, graph.weight_layers()[0]).gain, 10)
        2.0
    """
    operand = _data_operand(layer)
    if operand is None or (layer.weight and layer.weight.layer_type == "embedding"):
        return InputActivation(1.0, lambda x: x)
    replay = PointwiseReplay(graph, parameters or {})
    try:
        found = _measure(replay, operand)
        if not 0 < found.second_moment < math.inf:
            raise NotReplayableError(f"its second moment is {found.second_moment}")
    except NotReplayableError as error:
        return InputActivation(1.0, None, str(error), tuple(replay.notes))
    return replace(found, notes=tuple(replay.notes), roots=tuple(replay.roots))


def _data_operand(layer: Node) -> Operand | None:
    weight = layer.weight.operand if layer.weight else None
    active = (o for k, o in enumerate(layer.operands) if k != weight and k not in layer.addends)
    return next((operand for operand in active if operand.producers), None)


def _measure(replay: PointwiseReplay, operand: Operand) -> InputActivation:
    """E[phi^2]; of what was joined of parts the mean over these, weighted by size."""
    try:
        replay.evaluate(operand)
    except JoinedPartsError as joined:
        return _mean_over_parts(replay, operand, joined)
    number = len(replay.roots)
    if number not in (1, 2):
        raise NotReplayableError(f"it joins {number} independent tensors; up to two are taken")
    moment = _expectation(replay, operand, number)
    return InputActivation(moment, _phi(replay, operand) if number == 1 else None)


def _mean_over_parts(
    replay: PointwiseReplay, operand: Operand, joined: JoinedPartsError
) -> InputActivation:
    found = []
    for number in range(len(joined.parts)):
        replay.chosen[joined.key] = number
        replay.parts_taken += 1
        if replay.parts_taken > _MOST_PARTS:
            raise NotReplayableError(f"it joins more than {_MOST_PARTS} parts")
        found.append(_measure(replay, operand))
    del replay.chosen[joined.key]
    sizes = [math.prod(part.shape) for part in joined.parts]
    moment = sum(f.second_moment * s for f, s in zip(found, sizes, strict=True)) / sum(sizes)
    return InputActivation(moment, found[0].phi if _are_alike([f.phi for f in found]) else None)


def _are_alike(functions: Sequence[Activation | None]) -> bool:
    """Whether all parts came through the same activation."""
    probe = torch.linspace(-2, 2, 9, dtype=torch.float64)
    values = [phi(probe) for phi in functions if phi is not None]
    return len(values) == len(functions) and all(torch.equal(v, values[0]) for v in values)


def _expectation(replay: PointwiseReplay, operand: Operand, num_roots: int) -> float:
    """E[phi^2] over the product of one rule for each root; slopes by channel are averaged."""
    points, weights = gaussian_rule(num_roots)
    with torch.no_grad():
        values = replay.evaluate(operand, (points.reshape(-1, 1, 1), points.reshape(1, -1, 1)))
    moments = (values**2).mean(dim=-1)
    if num_roots == 1:
        return gaussian_mean(moments[:, 0].expand(len(points)))
    return float(weights @ moments.expand(len(points), len(points)) @ weights)


def _phi(replay: PointwiseReplay, operand: Operand) -> Activation | None:
    """Phi as a function of one tensor; None if it has several slopes."""
    # another part may be chosen when it is called
    own = replace(replay, chosen=dict(replay.chosen), roots=[])

    def values(points: torch.Tensor) -> torch.Tensor:
        return own.evaluate(operand, (points.reshape(-1, 1, 1),))

    if values(torch.ones(1, dtype=torch.float64)).shape[-1] != 1:
        return None
    return lambda points: values(points).reshape(-1).expand(points.numel()).reshape(points.shape)
