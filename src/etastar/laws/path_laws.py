"""Laws of the learning rate in statistics of the network's paths, alike for every parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from etastar.errors import LawError
from etastar.laws.base import Effect, Factors, Law, learning_rate
from etastar.typed import require_type, set_numbers

if TYPE_CHECKING:
    from etastar.depth import DepthReport
    from etastar.laws.base import ParamPair, TransferCase

__all__ = ["Constant", "DepthCount", "EffectiveDepth", "PathSum"]

DepthCount = Literal["effective", "layers"]
"""The fewest counted nodes on a path, or the most weight layers on one."""


@final
@dataclass(frozen=True)
class EffectiveDepth(Law):
    """The learning rate scales as a power of the depth, for every parameter.

    lr_target = lr_base (L_target / L_base)^exponent, L the effective depth, or the weight layers on
    the longest path.

    Args:
        exponent: Power of the depth ratio; -3/2 is [WU]'s.
        count: "effective" [WU]; "layers" is the usual count, that of [JE], whose networks are
            chains, where both are one.

    Raises:
        LawError: The exponent is not a finite number, or the count is unknown.

    Example:
        >>> EffectiveDepth(exponent=-1.0).options
        {'exponent': -1.0}
        >>> EffectiveDepth(count="layers").options
        {'exponent': -1.5, 'count': 'layers'}

    Source: [WU]; for ReLU MLPs [JE].
    """

    exponent: float = -1.5
    count: DepthCount = "effective"

    name: ClassVar[str] = "effective-depth"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})

    def __post_init__(self) -> None:
        owner = f"the law {self.name!r}"
        set_numbers(self, "exponent", error=LawError, owner=owner)
        require_type("count", self.count, DepthCount, error=LawError)

    @property
    def options(self) -> dict[str, Any]:
        """The exponent, and the count where it is another than [WU]'s."""
        own = {} if self.count == "effective" else {"count": self.count}
        return {"exponent": self.exponent, **own}

    def _depth(self, report: DepthReport) -> int:
        return report.effective_depth if self.count == "effective" else report.layer_longest_path

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ratio = self._depth(case.target.report) / self._depth(case.base.report)
        return learning_rate(ratio**self.exponent, optimizer=case.optimizer)


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

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ours, theirs = (n.report.layer_path_length_moments[3] for n in (case.target, case.base))
        # logarithms: the moments are exact integers that may exceed the range of a float
        factor = math.exp((math.log(theirs) - math.log(ours)) / 2)
        return learning_rate(factor / pair.kernel_side_ratio, optimizer=case.optimizer)


@final
@dataclass(frozen=True)
class Constant(Law):
    """The learning rate does not depend on depth: every factor is 1.

    Example:
        >>> Constant().options
        {}
    """

    name: ClassVar[str] = "constant"

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        return Factors()
