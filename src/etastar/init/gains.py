"""He gain of any activation, by quadrature."""

from __future__ import annotations

import math

import torch

from etastar.errors import InitError
from etastar.init.quadrature import Activation, gaussian_rule

__all__ = ["gain", "second_moment", "slope_second_moment"]


def _values(activation: Activation, points: torch.Tensor) -> torch.Tensor:
    values = activation(points)
    if not isinstance(values, torch.Tensor) or values.shape != points.shape:
        raise InitError(
            f"an activation that maps shape {tuple(points.shape)} to {_shape_of(values)}",
            "an element-wise function of one tensor",
            "pass the activation alone, without its layer",
        )
    return values


def _shape_of(values: object) -> str:
    return str(tuple(values.shape)) if isinstance(values, torch.Tensor) else type(values).__name__


def second_moment(activation: Activation, *, variance: float = 1.0) -> float:
    """E[phi(sqrt(q) z)^2], z ~ N(0, 1).

    Args:
        activation: phi, any element-wise function of a float64 tensor.
        variance: q, the variance of the pre-activations.

    Returns:
        The expectation, to 1e-12 for smooth functions; kinks away from multiples of sqrt(q) / 2
        leave about 1e-4.

    Raises:
        InitError: If the function is not element-wise.

    Example:
        >>> round(second_moment(torch.relu), 10)
        0.5
    """
    rule = gaussian_rule()
    with torch.no_grad():
        return rule.mean(_values(activation, math.sqrt(variance) * rule.points) ** 2)


def slope_second_moment(activation: Activation, *, variance: float = 1.0) -> float:
    """E[phi'(sqrt(q) z)^2], z ~ N(0, 1); phi' by automatic differentiation.

    Args:
        activation: phi, any differentiable element-wise function of a float64 tensor.
        variance: q, the variance of the pre-activations.

    Returns:
        The expectation; accuracy as for `second_moment`.

    Raises:
        InitError: If the function is not element-wise.

    Example:
        >>> round(slope_second_moment(torch.relu), 10)
        0.5
    """
    rule = gaussian_rule()
    with torch.enable_grad():
        points = (math.sqrt(variance) * rule.points).requires_grad_()
        values = _values(activation, points)
        if not values.requires_grad:  # a constant
            return 0.0
        (slope,) = torch.autograd.grad(values.sum(), points)
    return rule.mean(slope**2)


def gain(activation: Activation) -> float:
    """g(phi) = 1 / E[phi(z)^2], z ~ N(0, 1): what He initialization multiplies 1 / fan_in with.

    Args:
        activation: phi, any element-wise function of a float64 tensor.

    Returns:
        The gain: 2 for ReLU, 1 for the identity.

    Raises:
        InitError: If the function is not element-wise, or its second moment is zero or not finite.

    Example:
        >>> round(gain(torch.relu), 10), round(gain(torch.tanh), 4)
        (2.0, 2.5362)

    Reference: [AM], after He et al., arXiv 1502.01852.
    """
    moment = second_moment(activation)
    if not (math.isfinite(moment) and moment > 0):
        raise InitError(
            f"an activation with second moment {moment} at unit variance",
            "a finite second moment above zero",
            "initialize the layers behind this activation yourself",
        )
    return 1 / moment
