"""The edge of chaos, layer by layer: the critical point behind each activation, and the start.

A chain keeps the variance q of its critical point only if it starts there; so the first layer,
which reads data of unit variance, is drawn to make q.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from etastar.errors import InitError
from etastar.init.activation_path import InputActivation, input_activation
from etastar.init.gains import CriticalPoint, holding_point
from etastar.init.schemes import ParamInit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etastar.graph.dag import Graph, Node
    from etastar.parameter import ParamInfo

__all__ = ["Criticality", "started"]


class Criticality:
    """Activations and critical points of all weight layers, each computed once.

    Args:
        graph: The captured graph.
        parameters: Current values by canonical name, for slopes that are learned.
    """

    def __init__(self, graph: Graph, parameters: Mapping[str, torch.Tensor]) -> None:
        self.graph = graph
        self.parameters = parameters
        self._activations: dict[int, InputActivation] = {}
        self._points: dict[tuple[float, ...], CriticalPoint] = {}
        users = {info.name for info in graph.parameters if info.role == "bias"}
        self._with_bias = {
            index
            for node in graph.nodes
            if users.intersection(node.parameters)
            for index in (node.index, *node.inputs)
            if graph.nodes[index].weight is not None
        }

    def activation(self, layer: Node) -> InputActivation:
        """What the layer's input came through."""
        if layer.index not in self._activations:
            found = input_activation(self.graph, layer, parameters=self.parameters)
            self._activations[layer.index] = found
        return self._activations[layer.index]

    def point(self, layer: Node) -> CriticalPoint | None:
        """The critical point of that activation; None where there is none to find.

        Raises:
            InitError: The activation has no stable one.
        """
        phi = self.activation(layer).phi
        if phi is None:
            return None
        probe = torch.linspace(-2, 2, 9, dtype=torch.float64)
        values = phi(probe)
        if torch.equal(values, probe):
            return None
        has_bias = layer.index in self._with_bias
        key = (float(has_bias), *values.tolist())
        if key not in self._points:
            try:
                self._points[key] = holding_point(phi, has_bias=has_bias)
            except InitError as error:
                names = ", ".join(layer.weight.parameters) if layer.weight else layer.op
                received = f"before {names}, {error.received}"
                raise InitError(received, error.expected, error.action) from error
        return self._points[key]

    def start(self, layer: Node) -> float | None:
        """Variance that a first layer's weights are to make, so that the chain starts at q.

        None where no layer reads it through an activation alone, or that has no variance to keep.
        """
        behind = [
            point
            for other in self.graph.weight_layers()
            if (layer.index,) in self.activation(other).roots
            and (point := self.point(other)) is not None
        ]
        if not behind or not behind[0].fixed_point > 0:
            return None
        return behind[0].fixed_point - self._own_bias(layer, behind[0])

    def _own_bias(self, layer: Node, point: CriticalPoint) -> float:
        return point.bias_variance if layer.index in self._with_bias else 0.0

    def bias_variance(self, layer: Node | None) -> float:
        """sigma_b^2 of a layer: of its own critical point, else of the one that it starts."""
        if layer is None:
            return 0.0
        if (point := self.point(layer)) is not None:
            return point.bias_variance
        start = (
            found.bias_variance
            for other in self.graph.weight_layers()
            if (layer.index,) in self.activation(other).roots
            and (found := self.point(other)) is not None
        )
        return next(start, 0.0)


def started(info: ParamInfo, variance: float) -> ParamInit:
    """What a first layer is set to, on data of unit variance.

    Args:
        info: Its weight.
        variance: What its weights are to make.

    Returns:
        The entry, of variance `variance` / fan_in.
    """
    std = math.sqrt(variance / info.fan_in)
    why = f"starts at the critical variance: gain {variance:.6g}"
    return ParamInit(info.name, "normal", std, variance, 1.0, info.fan_in, why)
