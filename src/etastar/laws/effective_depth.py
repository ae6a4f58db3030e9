"""The effective-depth law: a power of the fewest counted nodes from an input to an output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from etastar.laws.base import Effect, Law, checked_number, learning_rate

if TYPE_CHECKING:
    from etastar.laws.base import Architecture, Factors, ParamPair
    from etastar.optimizers import OptimizerKind

__all__ = ["EffectiveDepth"]


@final
@dataclass(frozen=True)
class EffectiveDepth(Law):
    """The learning rate scales as a power of the effective depth, for every parameter.

    lr_target = lr_base (L_target / L_base)^exponent, L the effective depth.

    Args:
        exponent: Power of the depth ratio; -3/2 is [WU]'s.

    Raises:
        LawError: The exponent is not a finite number.

    Example:
        >>> EffectiveDepth(exponent=-1.0).options
        {'exponent': -1.0}

    Source: [WU]; for ReLU MLPs [JE].
    """

    exponent: float = -1.5

    name: ClassVar[str] = "effective-depth"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})

    def __post_init__(self) -> None:
        checked_number(self.name, "exponent", self.exponent)

    def factors(
        self,
        pair: ParamPair,
        *,
        base: Architecture,
        target: Architecture,
        optimizer: OptimizerKind,
    ) -> Factors:
        """See `Law.factors`."""
        ratio = target.report.effective_depth / base.report.effective_depth
        return learning_rate(ratio**self.exponent, optimizer=optimizer)
