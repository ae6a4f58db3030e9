"""Expectations of an activation under N(0, 1), its edge of chaos, and those that layers read.

At the end, the activation through which the input of each weight layer came is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from etastar.errors import InitError
from etastar.graph.dag import Graph
from etastar.graph.node import Node, Operand
from etastar.init.pointwise import JoinedPartsError, NotReplayableError, PointwiseReplay, Root

Activation = Callable[[torch.Tensor], torch.Tensor]
"""An element-wise function of one tensor."""

_SMALLEST, _NEAR_ZERO, _LARGEST = 1e-12, 1e-3, 1e6
_SCALE_FREE = 1e-9
"""Relative distance from a fixed point that counts as none; quadrature is exact to 1e-12."""


@dataclass(frozen=True)
class GaussianRule:
    """A quadrature rule for E[f(z)], z ~ N(0, 1).

    Attributes:
        points: Shape (n,), float64.
        weights: Shape (n,), float64; they sum to one up to 1e-12.
    """

    points: torch.Tensor
    weights: torch.Tensor

    def mean(self, values: torch.Tensor) -> float:
        """E[f(z)] from the values f(points), shape (n,)."""
        return float((self.weights * values).sum())


@cache
def gaussian_rule(num_variables: int = 1) -> GaussianRule:
    """The composite Gauss-Legendre rule used for each of one or two independent variables.

    Plain Gauss-Hermite converges like 1/points where f has a kink. Panels whose edges lie on the
    multiples of 0.5 put the kinks of the usual activations (0, 0.5, 1, 3, 6) on an edge, where
    they cost nothing. Around 0 the panels are halved, for functions that change fast there, as
    phi(sqrt(q) z) does for a large q. The line is cut at 12; P(|z| > 12) is 4e-33.

    One variable: 864 points, 1e-12 for smooth functions and for kinks at multiples of 0.5. Two:
    144 points each, so that their product stays small; 1e-9 for smooth functions. It is the same
    object at every call: do not write to its tensors.

    Example:
        >>> rule = gaussian_rule()
        >>> round(rule.mean(rule.points**4), 10), len(gaussian_rule(2).points)
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
    return GaussianRule(torch.from_numpy(points), torch.from_numpy(lengths * density))


def second_moment(activation: Activation, *, variance: float = 1.0) -> float:
    """E[phi(sqrt(q) z)^2], z ~ N(0, 1); at q = 1 one over the gain of He initialization [AM].

    To 1e-12 for smooth functions; kinks away from multiples of sqrt(q) / 2 leave about 1e-4.

    Example:
        >>> round(second_moment(torch.relu), 10)
        0.5
    """
    rule = gaussian_rule()
    with torch.no_grad():
        return rule.mean(activation(math.sqrt(variance) * rule.points) ** 2)


def slope_second_moment(activation: Activation, *, variance: float = 1.0) -> float:
    """E[phi'(sqrt(q) z)^2], z ~ N(0, 1), to the same accuracy; phi' by autograd."""
    rule = gaussian_rule()
    with torch.enable_grad():
        points = (math.sqrt(variance) * rule.points).requires_grad_()
        values = activation(points)
        if not values.requires_grad:  # a constant
            return 0.0
        (slope,) = torch.autograd.grad(values.sum(), points)
    return rule.mean(slope**2)


@dataclass(frozen=True)
class CriticalPoint:
    """A point on the edge of chaos.

    Attributes:
        weight_variance: sigma_w^2; a weight has variance sigma_w^2 / fan_in.
        bias_variance: sigma_b^2.
        fixed_point: q, the variance of the pre-activations that reproduces itself; 0 where it is
            only approached, 1 where every variance does.
    """

    weight_variance: float
    bias_variance: float
    fixed_point: float


def critical_point(activation: Activation, *, bias_variance: float = 0.0) -> CriticalPoint:
    """Solve sigma_w^2 E[phi'(sqrt(q) z)^2] = 1 at q = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2.

    Eliminating sigma_w^2 leaves one equation, E[phi^2] / E[phi'^2] + sigma_b^2 - q = 0, solved by
    bisection on log q. For a scale-free phi (ReLU) every q is a solution when sigma_b is 0; for
    tanh q tends to 0, where sigma_w^2 = 1 / phi'(0)^2. A point that the variances leave when they
    are off by a little (GELU without biases) is none.

    Raises:
        InitError: If phi has no stable critical point.

    Example:
        >>> round(critical_point(torch.relu).weight_variance, 6)
        2.0
        >>> critical_point(torch.tanh).fixed_point
        0.0

    Reference: docs/definitions.md, section 2; Schoenholz et al., arXiv 1611.01232.
    """
    scale_free = (abs(_excess(activation, q, 0.0)) < _SCALE_FREE for q in (1e-2, 1.0, 1e2))
    if bias_variance == 0 and all(scale_free):
        return _at(activation, 1.0, bias_variance)
    if _excess(activation, _SMALLEST, bias_variance) <= _SCALE_FREE:  # it shrinks from the start
        point = replace(_at(activation, _SMALLEST, bias_variance), fixed_point=0.0)
        attracts = _mapped(activation, point, _NEAR_ZERO) <= _NEAR_ZERO
    else:
        point = _at(activation, _bisect(activation, bias_variance), bias_variance)
        near = 1.01 * point.fixed_point
        attracts = abs(_mapped(activation, point, near) - point.fixed_point) < near / 101
    if not attracts:
        raise InitError(
            f"an activation without a stable critical point at bias variance {bias_variance}",
            "a variance that the layers reproduce when it is off by a little",
            "use scheme 'he', or give the layers biases (GELU and SiLU need them)",
        )
    return point


_BIAS_VARIANCES = (0.1, 0.2, 0.5, 1.0, 2.0)


def holding_point(activation: Activation, *, has_bias: bool) -> CriticalPoint:
    """The critical point with the smallest bias variance whose variance the layers keep.

    Scale-free activations (ReLU) need none. tanh and its like keep a variance above zero only with
    biases, GELU and SiLU have no stable point without. sigma_b^2 is one of 0, 0.1, 0.2, 0.5, 1, 2;
    0 where the layers have no biases.

    Raises:
        InitError: If phi has no stable critical point.

    Example:
        >>> holding_point(torch.relu, has_bias=True).bias_variance
        0.0
        >>> holding_point(torch.nn.functional.gelu, has_bias=True).bias_variance
        0.2
    """
    if not has_bias:
        return critical_point(activation)
    for bias_variance in (0.0, *_BIAS_VARIANCES):
        with suppress(InitError):
            point = critical_point(activation, bias_variance=bias_variance)
            if point.fixed_point > 0:
                return point
    return critical_point(activation)  # fading, or the reason that there is none


def _mapped(activation: Activation, point: CriticalPoint, q: float) -> float:
    """The variance that one layer makes of q."""
    return point.weight_variance * second_moment(activation, variance=q) + point.bias_variance


def _excess(activation: Activation, q: float, bias_variance: float) -> float:
    """How far the critical variance map moves q, relative to q."""
    slope = slope_second_moment(activation, variance=q)
    if not slope > 0:
        return math.inf
    return (second_moment(activation, variance=q) / slope + bias_variance) / q - 1


def _bisect(activation: Activation, bias_variance: float) -> float:
    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    while high - low > 1e-12 * max(1.0, abs(low)):
        middle = (low + high) / 2
        if _excess(activation, math.exp(middle), bias_variance) > 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _at(activation: Activation, q: float, bias_variance: float) -> CriticalPoint:
    slope = slope_second_moment(activation, variance=q)
    if not (math.isfinite(slope) and slope > 0):
        raise InitError(
            f"an activation whose slope has second moment {slope} at variance {q:g}",
            "a slope that is not zero everywhere",
            "use scheme 'he'",
        )
    return CriticalPoint(1 / slope, bias_variance, q)


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
    except NotReplayableError as error:
        return InputActivation(1.0, None, str(error), tuple(replay.notes))
    if not 0 < found.second_moment < math.inf:
        problem = f"its second moment is {found.second_moment}"
        return InputActivation(1.0, None, problem, tuple(replay.notes))
    return replace(found, notes=tuple(replay.notes), roots=tuple(replay.roots))


def _data_operand(layer: Node) -> Operand | None:
    weight = layer.weight.operand if layer.weight else None
    active = (o for k, o in enumerate(layer.operands) if k != weight and k not in layer.addends)
    return next((operand for operand in active if operand.producers), None)


def _measure(replay: PointwiseReplay, operand: Operand) -> InputActivation:
    """E[phi^2]; of what was joined of parts the mean over these, weighted by size."""
    try:
        roots = replay.collect(operand)
    except JoinedPartsError as joined:
        return _mean_over_parts(replay, operand, joined)
    if len(roots) not in (1, 2):
        raise NotReplayableError(f"it joins {len(roots)} independent tensors; up to two are taken")
    moment = _expectation(replay, operand, roots)
    return InputActivation(moment, _phi(replay, operand) if len(roots) == 1 else None)


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
    # another part may be chosen when it is called
    own = replace(replay, chosen=dict(replay.chosen))

    def values(points: torch.Tensor) -> torch.Tensor:
        return own.evaluate(operand, lambda _: points.reshape(-1, 1, 1))

    if values(torch.ones(1, dtype=torch.float64)).shape[-1] != 1:
        return None
    return lambda points: values(points).reshape(-1).expand(points.numel()).reshape(points.shape)
