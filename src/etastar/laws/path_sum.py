"""The path-sum law: the third moment of all path lengths, weight layers alone counted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from etastar.laws.base import Effect, Law, learning_rate

if TYPE_CHECKING:
    from etastar.laws.base import Architecture, Factors, ParamPair
    from etastar.optimizers import OptimizerKind

__all__ = ["PathSum"]


@final
@dataclass(frozen=True)
class PathSum(Law):
    """The learning rate scales with the sum of the cubed lengths of all paths.

    lr_target = lr_base (M_3,target / M_3,base)^(-1/2), M_3 = sum over paths of (weight layers)^3;
    the weights of a convolution also times q_base / q_target, q the side of its kernel (geometric
    mean of the sides), as the authors apply it to convolutions in two dimensions.

    Example:
        >>> PathSum().options
        {}

    Source: [CH], theorems on MLPs and convolutional networks.
    """

    name: ClassVar[str] = "path-sum"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})

    def factors(
        self,
        pair: ParamPair,
        *,
        base: Architecture,
        target: Architecture,
        optimizer: OptimizerKind,
    ) -> Factors:
        """See `Law.factors`."""
        moments = (
            base.report.layer_path_length_moments[3],
            target.report.layer_path_length_moments[3],
        )
        # logarithms: the moments are exact integers that may exceed the range of a float
        factor = math.exp((math.log(moments[0]) - math.log(moments[1])) / 2)
        return learning_rate(factor / pair.kernel_side_ratio, optimizer=optimizer)
