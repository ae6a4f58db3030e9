"""The one form in which a network is given: its graph, or a model with example inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import nn

from etastar.errors import CaptureError
from etastar.graph.capture import capture_graph
from etastar.graph.dag import Graph

__all__ = ["NetworkLike", "graph_of"]

NetworkLike: TypeAlias = "Graph | tuple[nn.Module, Any]"
"""A graph, or a model with what it takes: (model, x), (model, (x, y)), (model, {"x": x, "y": y}).

A tuple holds the positional arguments, a dict those by keyword; anything else is the one argument.
"""


def graph_of(network: NetworkLike) -> Graph:
    """The graph of a network.

    Args:
        network: A graph, which is returned; or the model and its example inputs.

    Returns:
        The graph.

    Raises:
        CaptureError: It is neither, or the model could not be run on the inputs.

    Example:
        >>> import torch
        >>> linear, x = nn.Linear(4, 2), torch.zeros(1, 4)
        >>> graph_of((linear, x)) == graph_of((linear, (x,))) == graph_of((linear, {"input": x}))
        True
    """
    match network:
        case Graph():
            return network
        case (nn.Module() as model, tuple() as arguments):
            return capture_graph(model, *arguments)
        case (nn.Module() as model, Mapping() as keywords):
            return capture_graph(model, **keywords)
        case (nn.Module() as model, argument):
            return capture_graph(model, argument)
    raise CaptureError(
        f"a network given as {_described(network)}",
        "a Graph, or (model, example inputs): one input, a tuple of them, or a dict of keywords",
        "pass e.g. (model, torch.zeros(1, 3, 32, 32))",
    )


def _described(network: object) -> str:
    if isinstance(network, tuple):
        return f"({', '.join(type(item).__name__ for item in network)})"
    return type(network).__name__
