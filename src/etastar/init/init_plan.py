"""Work out an initialization without touching the model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch

from etastar.graph.dag import Graph
from etastar.graph.node import Node
from etastar.init.edge_of_chaos import EdgeOfChaos
from etastar.init.gains import InputActivation, input_activation
from etastar.init.param_rules import (
    data_beside,
    is_zero,
    layer_of_bias,
    never_written,
    vector_rule,
    weight_rule,
)
from etastar.init.schemes import Action, InitReport, InitSettings, ParamInit
from etastar.parameter import ParamInfo


def plan_initialization(
    graph: Graph,
    *,
    parameters: Mapping[str, torch.Tensor],
    settings: InitSettings,
    zero_readout: bool = False,
) -> InitReport:
    """Decide for every parameter what it is set to, in the order of the graph; nothing is changed.

    Args:
        graph: The captured graph.
        parameters: Current parameters by canonical name; read for what is frozen, what was set on
            purpose, learned slopes and gains written by hand.
        settings: The options.
        zero_readout: Whether output weights that are zero were made so by an earlier
            initialization, and are there to be drawn.

    Raises:
        InitError: On the edge of chaos, if an activation has no stable critical point; or a pattern
            fits no parameter.
    """
    settings.require_matches([n for i in graph.parameters for n in (i.name, *i.aliases)])
    planner = _Planner(graph, parameters, settings, zero_readout=zero_readout)
    return InitReport(settings, tuple(planner.entries()))


class _Planner:
    """The rules for single parameters, with what they look up computed once."""

    def __init__(
        self,
        graph: Graph,
        parameters: Mapping[str, torch.Tensor],
        settings: InitSettings,
        *,
        zero_readout: bool,
    ) -> None:
        self.graph = graph
        self.parameters = dict(parameters)
        self.settings = settings
        self.users: dict[str, list[Node]] = defaultdict(list)
        for node in graph.nodes:
            for name in node.parameters:
                self.users[name].append(node)
        self.beside: dict[str, frozenset[int]] = {}
        self.layers = _deciding_layers(graph)
        weights = [i.name for i in graph.parameters if i.is_weight and i.role != "embedding"]
        self.is_written = not never_written(parameters, weights)
        redrawn = {i.name for i in graph.parameters if zero_readout and i.role == "output"}
        self.zero_weights = {
            name
            for name in weights
            if self.is_written and name not in redrawn and is_zero(parameters.get(name))
        }
        is_critical = settings.scheme == "edge-of-chaos"
        self.activation = cache(self._activation)
        self.edge = EdgeOfChaos(graph, self.activation) if is_critical else None
        entry_names = {i.name for i in graph.parameters if i.role in ("input", "embedding")}
        self.entry_layers = {
            node.index
            for node in graph.weight_layers()
            if node.weight and entry_names.issuperset(node.weight.parameters)
        }

    def entries(self) -> list[ParamInit]:
        """What happens to each; gains first, since activations are replayed with new ones."""
        roles = self.graph.parameters
        found: dict[str, ParamInit] = {}
        for info in sorted(roles, key=lambda i: (i.role != "norm", i.name in self.layers)):
            entry = found[info.name] = self._entry(info)
            if entry.action in ("zero", "one") and entry.why.startswith("norm gain"):
                fill = 1.0 if entry.action == "one" else 0.0
                self.parameters[info.name] = torch.full(info.shape, fill, dtype=torch.float64)
        for name, layers in self.beside.items():
            found[name] = replace(found[name], std=self._data_std(layers, found))
        return [found[info.name] for info in roles]

    def _activation(self, index: int) -> InputActivation:
        """What the input of a layer came through."""
        return input_activation(self.graph, self.graph.nodes[index], parameters=self.parameters)

    def _data_std(self, layers: frozenset[int], found: Mapping[str, ParamInit]) -> float:
        """Of looked-up rows the std of their table, of what other first layers make, one."""
        uses = (self.graph.nodes[index].weight for index in layers)
        tables = [u.parameters[0] for u in uses if u and u.layer_type == "embedding"]
        return min((found[name].std or 1.0 for name in tables), default=1.0)

    def _entry(self, info: ParamInfo) -> ParamInit:
        value = self.parameters.get(info.name)
        if value is not None and not value.requires_grad:
            return _entry(info, "kept", "frozen (requires_grad is False)")
        if (why := self.settings.leaves_out((info.name, *info.aliases))) is not None:
            return _entry(info, "kept", why)
        uses = [node.weight for node in self.users[info.name]]
        if any(use is not None and use.layer_type == "recurrent" for use in uses):
            return _entry(info, "kept", "recurrent: no rule here covers it")
        is_zero_anyway = info.role == "output" and self.settings.readout == "zero"
        if info.name in self.zero_weights and not is_zero_anyway:
            return _entry(info, "kept", "zero on purpose: what it ends adds nothing at first")
        layer = self.layers.get(info.name)
        if layer is not None:
            return self._weight(info, layer)
        return self._acting(info) if info.is_weight and info.fan_in > 1 else self._vector(info)

    def _acting(self, info: ParamInfo) -> ParamInit:
        """A vector that is contracted, or a weight that acts on learned queries.

        These stand for activations of unit variance.
        """
        if not self.users[info.name]:
            return _entry(info, "kept", "no operation used it")
        user = self.users[info.name][0]
        if not any(info.name in one.parameters and one.weights for one in user.operands):
            return weight_rule(
                info, self.activation(user.index), replace(self.settings, scheme="he")
            )
        queries = InputActivation(1.0, None, notes=("it acts on learned queries",))
        return weight_rule(info, queries, replace(self.settings, scheme="he"))

    def _vector(self, info: ParamInfo) -> ParamInit:
        if _effective_path(info.name) is not None:
            return _entry(info, "kept", "part of a parametrization that is no weight")
        users = self.users[info.name]
        beside = data_beside(info, users, self.graph)
        if beside and beside <= self.entry_layers:
            self.beside[info.name] = beside
            return _entry(info, "normal", "a table or token beside the data")
        value = self.parameters.get(info.name)
        if not self.is_written:
            value = torch.ones(()) if info.role == "norm" else None
        action, why = vector_rule(info, users, self.graph, value=value)
        if why == "bias" and self.edge is not None:
            variance = self.edge.bias_variance(layer_of_bias(users, self.graph))
            if variance > 0:
                std = math.sqrt(variance)
                return replace(_entry(info, "normal", "bias of variance sigma_b^2"), std=std)
        is_scaled = self.settings.residual != "none" and info.stream_additions > 1
        is_set = action in ("zero", "one") and info.role == "norm"
        if info.branch_scale and is_set and is_scaled:
            why += f"; it ends a branch, and undoes the 1/{info.stream_additions}"
        return _entry(info, action, why)

    def _weight(self, info: ParamInfo, layer: Node) -> ParamInit:
        assert layer.weight is not None
        effective = _effective_path(info.name)
        if effective is not None and not info.is_weight:
            return _entry(info, "follows", f"part of {effective}")
        makers = {_effective_path(name) or name for name in layer.weight.parameters}
        if len(makers) > 1:
            joined = ", ".join(layer.weight.parameters)
            return _entry(info, "kept", f"the weight is computed from several parameters: {joined}")
        # of a tied table, the projection that reads it too; of a slice what is read of it; of
        # experts that one product sums, one
        known = layer.weight.fan_in
        decided = replace(
            info, fan_in=known if info.role == "embedding" else min(info.fan_in, known)
        )
        activation, edge = self.activation(layer.index), self.edge
        point = None if edge is None else edge.point(layer)
        rule = weight_rule(decided, activation, self.settings, point=point)
        start = edge.start(layer) if edge is not None and info.role == "input" else None
        if start is not None:
            why = f"starts at the critical variance: gain {start:.6g}"
            std = math.sqrt(start / decided.fan_in)
            rule = replace(rule, action="normal", std=std, gain=start, factor=1.0, why=why)
        if info.role == "embedding" and layer.weight.layer_type != "embedding":
            rule = replace(rule, why=f"{rule.why}, tied: drawn as the projection that reads it too")
        return replace(rule, effective=effective)


def _deciding_layers(graph: Graph) -> dict[str, Node]:
    """The weight layer that decides each weight: the first that contracts it, else looks it up."""
    found: dict[str, Node] = {}
    for node in graph.weight_layers():
        assert node.weight is not None
        for name in node.weight.parameters:
            known = found.setdefault(name, node)
            if known.weight and known.weight.layer_type == "embedding":
                found[name] = node
    return found


def _entry(info: ParamInfo, action: Action, why: str) -> ParamInit:
    return ParamInit(info.name, action, fan_in=info.fan_in, why=why)


def _effective_path(name: str) -> str | None:
    """Path of the tensor that a parametrization computes from this parameter."""
    module, separator, rest = f".{name}".partition(".parametrizations.")
    if not separator:
        return None
    return f"{module}.{rest.split('.')[0]}".lstrip(".")
