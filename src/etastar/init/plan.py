"""Work out an initialization without touching the model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from etastar.init.activation_path import input_activation
from etastar.init.records import InitReport, InitSettings, ParamInit
from etastar.init.variance import weight_variance
from etastar.init.vectors import vector_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from etastar.graph.dag import Graph, Node
    from etastar.parameter import ParamInfo

__all__ = ["plan_initialization"]

_PARAMETRIZED = ".parametrizations."


def plan_initialization(
    graph: Graph,
    roles: tuple[ParamInfo, ...],
    *,
    parameters: Mapping[str, torch.Tensor],
    settings: InitSettings | None = None,
) -> InitReport:
    """Decide for every parameter what it is set to; nothing is changed.

    Args:
        graph: The captured graph.
        roles: `parameter_roles(graph)`.
        parameters: Current parameters by canonical name; read for frozen ones, learned slopes
            and hand-written norm gains.
        settings: The options; the defaults if None.

    Returns:
        One entry for each parameter, in the order of `roles`.

    Example:
        >>> info = ParamInfo("b", (4,), "bias", fan_in=1, fan_out=4, uses=0)
        >>> report = plan_initialization(Graph((), {}, {}, (), {}), (info,), parameters={})
        >>> report["b"].why
        'no operation used it'
    """
    settings = settings or InitSettings()
    layers = _first_layers(graph)
    done: dict[str, str] = {}
    entries = []
    for info in roles:
        entry = _planned(info, graph, layers.get(info.name), parameters, settings)
        if entry.effective is not None and entry.action != "kept":
            first = done.setdefault(entry.effective, info.name)
            if first != info.name:
                entry = _entry(info, "follows", f"part of {entry.effective}, see {first}")
        entries.append(entry)
    return InitReport(settings, tuple(entries))


def _first_layers(graph: Graph) -> dict[str, Node]:
    """The weight layer that decides each weight: the first that contracts it, else looks it up."""
    found: dict[str, Node] = {}
    for node in graph.weight_layers():
        assert node.weight is not None
        for name in node.weight.parameters:
            known = found.setdefault(name, node)
            if known.weight and known.weight.layer_type == "embedding":
                found[name] = node
    return found


def _entry(info: ParamInfo, action: str, why: str) -> ParamInit:
    return ParamInit(info.name, info.shape, action, fan_in=info.fan_in, why=why)  # type: ignore[arg-type]


def _planned(
    info: ParamInfo,
    graph: Graph,
    layer: Node | None,
    parameters: Mapping[str, torch.Tensor],
    settings: InitSettings,
) -> ParamInit:
    value = parameters.get(info.name)
    if value is not None and not value.requires_grad:
        return _entry(info, "kept", "frozen (requires_grad is False)")
    if info.layer_type == "recurrent" or _is_recurrent(info, graph):
        return _entry(info, "kept", "recurrent: no rule here covers it")
    if layer is not None and layer.weight is not None:
        return _planned_weight(info, graph, layer, parameters, settings)
    if info.is_weight:
        return _entry(info, "kept", "no weight layer that depends on an input used it")
    return _planned_vector(info, graph, parameters, settings)


def _is_recurrent(info: ParamInfo, graph: Graph) -> bool:
    return any(
        node.weight is not None
        and node.weight.layer_type == "recurrent"
        and info.name in node.parameters
        for node in graph.weight_layers()
    )


def _planned_vector(
    info: ParamInfo,
    graph: Graph,
    parameters: Mapping[str, torch.Tensor],
    settings: InitSettings,
) -> ParamInit:
    if _effective_path(info.name) is not None:
        return _entry(info, "kept", "part of a parametrization that is no weight")
    rule = vector_rule(info, graph, parameters)
    if rule.action == "zero" and rule.why == "bias" and settings.bias_variance:
        std = math.sqrt(settings.bias_variance)
        return ParamInit(info.name, info.shape, "normal", std=std, why="bias of variance sigma_b^2")
    return _entry(info, rule.action, rule.why)


def _planned_weight(
    info: ParamInfo,
    graph: Graph,
    layer: Node,
    parameters: Mapping[str, torch.Tensor],
    settings: InitSettings,
) -> ParamInit:
    assert layer.weight is not None
    effective = _effective_path(info.name)
    others = [n for n in layer.weight.parameters if _effective_path(n) != effective]
    if others or (effective is None and len(layer.weight.parameters) > 1):
        joined = ", ".join(layer.weight.parameters)
        return _entry(info, "kept", f"the weight is computed from several parameters: {joined}")
    activation = input_activation(graph, layer, parameters=parameters)
    fans = _with_fans(info, layer)
    rule = weight_variance(fans, activation, settings)
    why = rule.why
    if fans.fan_in != info.fan_in:
        why = f"{why}, fan_in of the projection that shares the table"
    return ParamInit(
        info.name,
        info.shape,
        "normal" if rule.variance > 0 else "zero",
        std=math.sqrt(rule.variance) if rule.variance > 0 else None,
        gain=rule.gain,
        factor=rule.factor,
        fan_in=rule.fan_in,
        why=why,
        effective=effective,
    )


def _with_fans(info: ParamInfo, layer: Node) -> ParamInfo:
    """The role with the fan-in of the deciding layer; a tied table is read as a projection."""
    assert layer.weight is not None
    return replace(info, fan_in=layer.weight.fan_in)


def _effective_path(name: str) -> str | None:
    """Path of the tensor that a parametrization computes from this parameter."""
    module, separator, rest = f".{name}".partition(_PARAMETRIZED)
    if not separator:
        return None
    return f"{module}.{rest.split('.')[0]}".lstrip(".")
