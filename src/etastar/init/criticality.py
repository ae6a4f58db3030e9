"""Edge of chaos: the weight variance at which neither signals nor gradients grow or fade."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from etastar.errors import InitError
from etastar.init.gains import second_moment, slope_second_moment

if TYPE_CHECKING:
    from etastar.init.quadrature import Activation

__all__ = ["CriticalPoint", "critical_point"]

_SMALLEST, _NEAR_ZERO, _LARGEST = 1e-12, 1e-3, 1e6
_SCALE_FREE = 1e-9
"""Relative distance from a fixed point that counts as none; quadrature is exact to 1e-12."""


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
        InitError: If sigma_b^2 is negative, or phi has no stable critical point.

    Example:
        >>> import torch
        >>> round(critical_point(torch.relu).weight_variance, 6)
        2.0
        >>> critical_point(torch.tanh).fixed_point
        0.0

    Reference: docs/definitions.md, section 2; Schoenholz et al., arXiv 1611.01232.
    """
    if not (math.isfinite(bias_variance) and bias_variance >= 0):
        raise InitError(
            f"bias variance {bias_variance}", "a finite number, 0 or above", "use 0 for no bias"
        )
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
            "use scheme 'he', or another bias variance (GELU and SiLU need one above zero)",
        )
    return point


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
