"""The nominal-depth law: a power of the number of weight layers on the longest path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from etastar.laws.base import Effect, Law, checked_number, learning_rate

if TYPE_CHECKING:
    from etastar.laws.base import Architecture, Factors, ParamPair
    from etastar.optimizers import OptimizerKind

__all__ = ["NominalDepth"]


@final
@dataclass(frozen=True)
class NominalDepth(Law):
    """The learning rate scales as a power of the nominal depth, for every parameter.

    lr_target = lr_base (L_target / L_base)^exponent, L the weight layers on the longest path.

    Args:
        exponent: Power of the depth ratio; -3/2 for comparison with `EffectiveDepth`.

    Raises:
        LawError: The exponent is not a finite number.

    Example:
        >>> NominalDepth(exponent=-1.0).options
        {'exponent': -1.0}

    Source: [JE], whose networks are chains, where it is the effective depth.
    """

    exponent: float = -1.5

    name: ClassVar[str] = "nominal-depth"
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
        ratio = target.report.layer_longest_path / base.report.layer_longest_path
        return learning_rate(ratio**self.exponent, optimizer=optimizer)
