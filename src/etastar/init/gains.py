"""Expectations of an activation under N(0, 1), and its edge of chaos."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from etastar.errors import InitError

__all__ = [
    "Activation",
    "CriticalPoint",
    "GaussianRule",
    "critical_point",
    "gaussian_rule",
    "holding_point",
    "second_moment",
    "slope_second_moment",
]

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
    """The composite Gauss-Legendre rule used for each of `num_variables` independent variables.

    Plain Gauss-Hermite converges like 1/points where f has a kink. Panels whose edges lie on the
    multiples of 0.5 put the kinks of the usual activations (0, 0.5, 1, 3, 6) on an edge, where
    they cost nothing. Around 0 the panels are halved, for functions that change fast there, as
    phi(sqrt(q) z) does for a large q. The line is cut at 12; P(|z| > 12) is 4e-33.

    One variable: 864 points, 1e-12 for smooth functions and for kinks at multiples of 0.5. Two:
    144 points each, so that their product stays small; 1e-9 for smooth functions.

    Args:
        num_variables: 1 or 2.

    Returns:
        The same object at every call; do not write to its tensors.

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

    Args:
        activation: phi, any element-wise function of a float64 tensor.
        variance: q, the variance of the pre-activations.

    Returns:
        The expectation, to 1e-12 for smooth functions; kinks away from multiples of sqrt(q) / 2
        leave about 1e-4.

    Example:
        >>> round(second_moment(torch.relu), 10)
        0.5
    """
    rule = gaussian_rule()
    with torch.no_grad():
        return rule.mean(activation(math.sqrt(variance) * rule.points) ** 2)


def slope_second_moment(activation: Activation, *, variance: float = 1.0) -> float:
    """E[phi'(sqrt(q) z)^2], z ~ N(0, 1); phi' by automatic differentiation.

    Args:
        activation: phi, any differentiable element-wise function of a float64 tensor.
        variance: q, the variance of the pre-activations.

    Returns:
        The expectation; accuracy as for `second_moment`.

    Example:
        >>> round(slope_second_moment(torch.relu), 10)
        0.5
    """
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

    Args:
        activation: phi, any differentiable element-wise function of a float64 tensor.
        bias_variance: sigma_b^2, not negative.

    Returns:
        The critical point.

    Raises:
        InitError: If phi has no stable critical point.

    Example:
        >>> import torch
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
    biases, GELU and SiLU have no stable point without.

    Args:
        activation: phi, any differentiable element-wise function of a float64 tensor.
        has_bias: Whether the layers can have biases; else sigma_b is 0.

    Returns:
        The critical point, sigma_b^2 one of 0, 0.1, 0.2, 0.5, 1, 2.

    Raises:
        InitError: If phi has no stable critical point.

    Example:
        >>> import torch
        >>> holding_point(torch.relu, has_bias=True).bias_variance
        0.0
        >>> holding_point(torch.nn.functional.gelu, has_bias=True).bias_variance
        0.2
    """
    if not has_bias:
        return critical_point(activation)
    for bias_variance in (0.0, *_BIAS_VARIANCES):
        try:
            point = critical_point(activation, bias_variance=bias_variance)
        except InitError:
            continue
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
