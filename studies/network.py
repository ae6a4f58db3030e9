"""Networks of an experiment: what makes a model, and what its graph says of depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from etastar.graph import Graph, capture_graph
from etastar.laws import Architecture
from etastar.models import build, example_inputs
from etastar.sweep.recipe import Size
from etastar.transfer import read_architecture
from studies.cells import cell, cell_inputs

if TYPE_CHECKING:
    from torch import nn

    from studies.declaration import Axis, Network


@dataclass(frozen=True)
class ZooNetwork:
    """A network of the zoo.

    Attributes:
        name: A key of the zoo, or "cell": a stack of random cells.
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
        arguments = self._arguments(size)
        return cell(**arguments) if self.name == "cell" else build(self.name, **arguments)

    def inputs(self, **size: int) -> tuple[Any, ...]:
        """See `Network.inputs`."""
        arguments = self._arguments(size)
        if self.name == "cell":
            return cell_inputs(**arguments)
        return example_inputs(self.name, **arguments)

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


def axis_value(network: Network, size: Size, axis: Axis) -> float:
    """A size as a number on an axis.

    `effective-depth`: fewest counted nodes on a path [WU]; `nominal-depth`: most weight layers on a
    path; `path-sum`: M_3^(1/3), the depth of the chain that has the same sum of cubed lengths [CH],
    so that the law's exponent in it is -3/2; `width`: the size's own argument.

    Args:
        network: Makes the model.
        size: Its size.
        axis: Which number.

    Returns:
        The number.

    Example:
        >>> net, size = ZooNetwork("resmlp"), (("depth", 2), ("width", 8))
        >>> [axis_value(net, size, axis) for axis in ("effective-depth", "nominal-depth", "width")]
        [4.0, 4.0, 8.0]
    """
    if axis == "width":
        return float(dict(size)["width"])
    report = network_architecture(network, size).report
    if axis == "effective-depth":
        return float(report.effective_depth)
    if axis == "nominal-depth":
        return float(report.layer_longest_path)
    # logarithms: the moments are exact integers that may exceed the range of a float
    return math.exp(math.log(report.layer_path_length_moments[3]) / 3)
