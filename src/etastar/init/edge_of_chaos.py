"""The edge of chaos: variances at which a chain keeps the size of its signals and its gradients.

Schoenholz et al., arXiv 1611.01232; docs/definitions.md, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from etastar.errors import InitError
from etastar.graph.dag import Graph
from etastar.graph.node import Node
from etastar.init.gains import (
    Activation,
    InputActivation,
    gaussian_mean,
    gaussian_rule,
    second_moment,
)

_SMALLEST, _NEAR_ZERO, _LARGEST = 1e-12, 1e-3, 1e6
_SCALE_FREE = 1e-9
"""Relative distance from a fixed point that counts as none; quadrature is exact to 1e-12."""
_BIAS_VARIANCES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)


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


def slope_second_moment(activation: Activation, *, variance: float = 1.0) -> float:
    """E[phi'(sqrt(q) z)^2], z ~ N(0, 1), as accurate as `second_moment`; phi' by autograd."""
    with torch.enable_grad():
        points = (math.sqrt(variance) * gaussian_rule()[0]).requires_grad_()
        values = activation(points)
        if not values.requires_grad:  # a constant
            return 0.0
        (slope,) = torch.autograd.grad(values.sum(), points)
    return gaussian_mean(slope**2)


def critical_point(activation: Activation, *, bias_variance: float = 0.0) -> CriticalPoint | None:
    """Solve sigma_w^2 E[phi'(sqrt(q) z)^2] = 1 at q = sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2.

    Eliminating sigma_w^2 leaves one equation, E[phi^2] / E[phi'^2] + sigma_b^2 - q = 0, solved by
    bisection on log q. For a scale-free phi (ReLU) every q is a solution when sigma_b is 0; for
    tanh q tends to 0, where sigma_w^2 = 1 / phi'(0)^2. A point that the variances leave when they
    are off by a little (GELU without biases) is none.

    Returns:
        The point; None if phi has no stable one.

    Example:
        >>> round(critical_point(torch.relu).weight_variance, 6)
        2.0
        >>> critical_point(torch.tanh).fixed_point
        0.0
    """

    def excess(q: float) -> float:
        """How far the critical variance map moves q, relative to q."""
        slope = slope_second_moment(activation, variance=q)
        if not slope > 0:
            return math.inf
        return (second_moment(activation, variance=q) / slope + bias_variance) / q - 1

    is_free = bias_variance == 0 and all(abs(excess(q)) < _SCALE_FREE for q in (1e-2, 1.0, 1e2))
    is_fading = not is_free and excess(_SMALLEST) <= _SCALE_FREE  # it shrinks from the start
    q = 1.0 if is_free else _SMALLEST if is_fading else _root(excess)
    slope = slope_second_moment(activation, variance=q)
    if not 0 < slope < math.inf:
        return None
    point = CriticalPoint(1 / slope, bias_variance, 0.0 if is_fading else q)
    near = _NEAR_ZERO if is_fading else 1.01 * q
    made = point.weight_variance * second_moment(activation, variance=near) + bias_variance
    attracts = made <= near if is_fading else abs(made - q) < near / 101
    return point if is_free or attracts else None


def _root(excess: Callable[[float], float]) -> float:
    """Where the excess changes its sign, by bisection on log q."""
    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    while high - low > 1e-12 * max(1.0, abs(low)):
        middle = (low + high) / 2
        if excess(math.exp(middle)) > 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def holding_point(activation: Activation, *, has_bias: bool) -> CriticalPoint | None:
    """The critical point with the smallest bias variance whose variance the layers keep.

    Scale-free activations (ReLU) need none. tanh and its like keep a variance above zero only with
    biases, GELU and SiLU have no stable point without. sigma_b^2 is one of 0, 0.1, 0.2, 0.5, 1, 2;
    0 where the layers have no biases, or where none holds: the variance fades then.

    Example:
        >>> holding_point(torch.relu, has_bias=True).bias_variance
        0.0
        >>> holding_point(torch.nn.functional.gelu, has_bias=True).bias_variance
        0.2
    """
    for bias_variance in _BIAS_VARIANCES if has_bias else ():
        point = critical_point(activation, bias_variance=bias_variance)
        if point is not None and point.fixed_point > 0:
            return point
    return critical_point(activation)


class EdgeOfChaos:
    """Critical points of the weight layers of a graph, computed once.

    A chain keeps the variance q of its critical point only if it starts there; so the first layer,
    which reads data of unit variance, is drawn to make q.
    """

    def __init__(self, graph: Graph, activation: Callable[[int], InputActivation]) -> None:
        self._layers, self._activation = graph.weight_layers(), activation
        self._points: dict[tuple[float, ...], CriticalPoint | None] = {}
        biases = {info.name for info in graph.parameters if info.role == "bias"}
        self._with_bias = {
            index
            for node in graph
            if biases.intersection(node.parameters)
            for index in (node.index, *node.inputs)
            if graph.nodes[index].weight is not None
        }

    def point(self, layer: Node) -> CriticalPoint | None:
        """The critical point of what the layer's input came through; None if that is no function.

        Raises:
            InitError: There is no stable one.
        """
        phi = self._activation(layer.index).phi
        if phi is None:
            return None
        probe = torch.linspace(-2, 2, 9, dtype=torch.float64)
        values = phi(probe)
        if torch.equal(values, probe):
            return None
        has_bias = layer.index in self._with_bias
        key = (float(has_bias), *values.tolist())
        if key not in self._points:
            self._points[key] = holding_point(phi, has_bias=has_bias)
        point = self._points[key]
        if point is None:
            names = ", ".join(layer.weight.parameters) if layer.weight else layer.op
            raise InitError(
                f"before {names}, an activation without a stable critical point",
                "a variance that the layers reproduce when it is off by a little",
                "use scheme 'he', or give the layers biases (GELU and SiLU need them)",
            )
        return point

    def start(self, layer: Node) -> float | None:
        """Variance that a first layer's weights are to make, so that the chain starts at q.

        None where no layer reads it through an activation alone, or that has no variance to keep.
        """
        point = self._started(layer)
        if point is None or not point.fixed_point > 0:
            return None
        return point.fixed_point - point.bias_variance * (layer.index in self._with_bias)

    def bias_variance(self, layer: Node | None) -> float:
        """sigma_b^2 of a layer: of its own critical point, else of the one that it starts."""
        point = None if layer is None else self.point(layer) or self._started(layer)
        return 0.0 if point is None else point.bias_variance

    def _started(self, layer: Node) -> CriticalPoint | None:
        """The critical point of the first layer that reads it through an activation alone."""
        behind = (
            self.point(one)
            for one in self._layers
            if (layer.index,) in self._activation(one.index).roots
        )
        return next(filter(None, behind), None)
