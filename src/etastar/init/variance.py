"""The variance of one weight: gain of its input's activation, residual and in-degree factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from etastar.errors import InitError
from etastar.init.criticality import critical_point

if TYPE_CHECKING:
    from etastar.init.activation_path import InputActivation
    from etastar.init.records import InitSettings
    from etastar.parameter import ParamInfo

__all__ = ["WeightVariance", "branch_factor", "weight_variance"]


@dataclass(frozen=True)
class WeightVariance:
    """Var[W] = gain * factor / fan_in, with the reasons.

    Attributes:
        variance: The product.
        gain: g(phi), or sigma_w^2.
        factor: Residual and in-degree factors.
        fan_in: Terms summed into one output unit.
        why: The rule in words.
    """

    variance: float
    gain: float
    factor: float
    fan_in: int
    why: str


def weight_variance(
    info: ParamInfo, activation: InputActivation, settings: InitSettings
) -> WeightVariance:
    """Variance of one weight under the settings.

    Var[W] = g / fan_in, times 1 / K on a residual branch [AM] and 1 / d where d branches are
    summed [CH]; output weights 1 / fan_in^2 or 0 as asked [TP5].

    Args:
        info: Role, fans and branch of the weight.
        activation: What its input came through.
        settings: The options.

    Returns:
        The variance and its parts.

    Raises:
        InitError: On the edge of chaos, if the activation has no stable critical point.

    Example:
        >>> from etastar.init.activation_path import InputActivation
        >>> from etastar.init.records import InitSettings
        >>> from etastar.parameter import ParamInfo
        >>> info = ParamInfo("w", (4, 8), "hidden", fan_in=8, fan_out=4, stream=0,
        ...                  stream_additions=5, branch=0, branch_position=0)
        >>> relu = InputActivation(0, 0.5, 1, None)
        >>> weight_variance(info, relu, InitSettings()).variance
        0.05

    Reference: docs/definitions.md, section 2.
    """
    fan_in = info.fan_in
    if info.role == "output" and settings.readout != "standard":
        if settings.readout == "zero":
            return WeightVariance(0.0, 0.0, 1.0, fan_in, "readout zero")
        return WeightVariance(fan_in**-2, 1.0, 1 / fan_in, fan_in, "readout 1/fan_in^2 [TP5]")
    gain, gain_why = _gain(info, activation, settings)
    factor, factor_why = branch_factor(info, settings)
    why = ", ".join(filter(None, (gain_why, factor_why, *activation.notes)))
    return WeightVariance(gain * factor / fan_in, gain, factor, fan_in, why)


def branch_factor(info: ParamInfo, settings: InitSettings) -> tuple[float, str]:
    """1 / K of the residual rule times 1 / d of the in-degree rule, and the reasons.

    The in-degree rule divides the variance of each *branch* by d, so its factor sits on the last
    weight of the branch, however many weights the branch has.

    Args:
        info: Branch of the weight.
        settings: The options.

    Returns:
        The factor, and why.

    Example:
        >>> from etastar.init.records import InitSettings
        >>> from etastar.parameter import ParamInfo
        >>> info = ParamInfo("w", (4, 8), "hidden", 8, 4, stream=0, stream_additions=5,
        ...                  branch_last=True, branch_fan=2)
        >>> branch_factor(info, InitSettings(scheme="in-degree"))
        (0.1, 'residual 1/5, in-degree 1/2')
    """
    factor, reasons = 1.0, []
    k, d = info.stream_additions, info.branch_fan
    scaled = settings.residual == "all" or (settings.residual == "last" and info.branch_last)
    if info.in_branch and scaled and k > 1:
        factor, reasons = factor / k, [f"residual 1/{k}"]
    if settings.scheme == "in-degree" and info.branch_last and d > 1:
        factor, reasons = factor / d, [*reasons, f"in-degree 1/{d}"]
    return factor, ", ".join(reasons)


def _gain(
    info: ParamInfo, activation: InputActivation, settings: InitSettings
) -> tuple[float, str]:
    if activation.problem is not None:
        return 1.0, f"gain 1: activation not measured, {activation.problem}"
    if settings.scheme == "edge-of-chaos":
        return _critical_gain(info, activation, settings.bias_variance)
    return activation.gain, f"gain {activation.gain:.6g}"


def _critical_gain(
    info: ParamInfo, activation: InputActivation, bias_variance: float
) -> tuple[float, str]:
    phi = activation.phi
    if phi is None:
        why = "no critical point of a function of several tensors or with slopes by channel"
        return activation.gain, f"gain {activation.gain:.6g}: {why}"
    probe = torch.linspace(-2, 2, 9, dtype=torch.float64)
    if torch.equal(phi(probe), probe):
        return 1.0, "no activation: sigma_w^2 1"
    try:
        point = critical_point(phi, bias_variance=bias_variance)
    except InitError as error:
        received = f"before {info.name}, {error.received}"
        raise InitError(received, error.expected, error.action) from error
    why = f"critical sigma_w^2 {point.weight_variance:.6g} at q {point.fixed_point:.4g}"
    return point.weight_variance, why
