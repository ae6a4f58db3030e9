"""A network as the laws see it, from its graph or from the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from etastar.errors import PlanError
from etastar.graph import Graph, capture_graph, effective_depth, parameter_roles
from etastar.laws import Architecture

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["Network", "read_architecture"]

Network: TypeAlias = "Graph | Architecture | tuple[nn.Module, tuple[Any, ...] | Mapping[str, Any]]"
"""A graph, or a model with example inputs: a tuple of arguments or a dict of keyword arguments."""


def read_architecture(network: Network) -> Architecture:
    """Depth report and parameters of a network.

    Args:
        network: A captured graph; or the model and its example inputs, a tuple of arguments or a
            dict of keyword arguments; or an architecture already read, which is returned.

    Returns:
        What the laws need to know of it.

    Raises:
        PlanError: It is none of these.
        CaptureError: The model could not be run on the inputs.
        DepthError: The network has no effective depth.
    """
    if isinstance(network, Architecture):
        return network
    graph = network if isinstance(network, Graph) else _captured(network)
    return Architecture(report=effective_depth(graph), parameters=parameter_roles(graph))


def _captured(network: object) -> Graph:
    match network:
        case (nn.Module() as model, tuple() as arguments):
            return capture_graph(model, *arguments)
        case (nn.Module() as model, Mapping() as keywords):
            return capture_graph(model, **keywords)
    raise PlanError(
        f"a network given as {_described(network)}",
        "a Graph, or (model, example inputs) with a tuple of arguments or a dict of keywords",
        "pass e.g. (model, (torch.zeros(1, 3, 32, 32),))",
    )


def _described(network: object) -> str:
    if isinstance(network, tuple):
        return f"({', '.join(type(item).__name__ for item in network)})"
    return type(network).__name__
