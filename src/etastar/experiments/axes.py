"""What exponents are fitted in: one number of a size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from etastar.experiments.network import network_architecture

if TYPE_CHECKING:
    from etastar.experiments.declaration import Axis
    from etastar.experiments.network import Network
    from etastar.sweep.space import Size

__all__ = ["axis_value"]


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
        >>> from etastar.experiments.network import ZooNetwork
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
