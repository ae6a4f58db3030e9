"""Networks of an experiment: what makes a model, and what its graph says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import torch

from etastar.graph import capture_graph
from etastar.models import build, example_inputs
from etastar.transfer import read_architecture

if TYPE_CHECKING:
    from torch import nn

    from etastar.graph import Graph
    from etastar.laws import Architecture
    from etastar.sweep.space import Size

__all__ = ["Network", "ZooNetwork", "captured", "network_architecture"]


class Network(Protocol):
    """Makes models of any size; hashable, picklable, and its `repr` says all that it does."""

    def __hash__(self) -> int:
        """Equal networks have equal hashes, in every process."""
        ...

    def build(self, **size: int) -> nn.Module:
        """A model with PyTorch's own initialization, drawn from the global random numbers."""
        ...

    def inputs(self, **size: int) -> tuple[Any, ...]:
        """Example inputs of that model, the same at every call."""
        ...


@dataclass(frozen=True)
class ZooNetwork:
    """A network of the zoo.

    Attributes:
        name: A key of the zoo.
        options: Arguments at all sizes, as sorted (name, value) pairs.
        branch_power: The forward pass multiplies every residual branch by depth^branch_power.

    Example:
        >>> ZooNetwork("mlp", (("width", 8),)).build(depth=1).head.in_features
        8
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    branch_power: float = 0.0

    def build(self, **size: int) -> nn.Module:
        """See `Network.build`."""
        return build(self.name, **self._arguments(size))

    def inputs(self, **size: int) -> tuple[Any, ...]:
        """See `Network.inputs`."""
        return example_inputs(self.name, **self._arguments(size))

    def _arguments(self, size: dict[str, int]) -> dict[str, Any]:
        arguments = {**dict(self.options), **size}
        if self.branch_power:
            arguments["branch_multiplier"] = arguments["depth"] ** self.branch_power
        return arguments


@lru_cache(maxsize=64)
def captured(network: Network, size: Size) -> Graph:
    """The graph of a network at a size; captured once in a process.

    Args:
        network: Makes the model.
        size: Its size.

    Returns:
        The graph.

    Example:
        >>> len(captured(ZooNetwork("mlp"), (("depth", 2), ("width", 8))).weight_layers())
        3
    """
    arguments = dict(size)
    # a run's own random numbers must not depend on whether this was called before
    with torch.random.fork_rng(devices=[]):
        return capture_graph(network.build(**arguments), *network.inputs(**arguments))


@lru_cache(maxsize=64)
def network_architecture(network: Network, size: Size) -> Architecture:
    """What the laws may know of a network at a size.

    Args:
        network: Makes the model.
        size: Its size.

    Returns:
        Depth report and parameters.

    Example:
        >>> network_architecture(ZooNetwork("mlp"), (("depth", 2),)).report.effective_depth
        3
    """
    return read_architecture(captured(network, size))
