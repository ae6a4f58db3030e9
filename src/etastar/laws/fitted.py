"""The fitted law: the power law that two or more tuned sizes show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from etastar.laws.base import Effect, Law, checked_number, learning_rate

if TYPE_CHECKING:
    from etastar.laws.base import Architecture, Factors, ParamPair
    from etastar.optimizers import OptimizerKind

__all__ = ["Fitted"]


@final
@dataclass(frozen=True)
class Fitted(Law):
    """The learning rate follows a power law through tuned sizes, for every parameter.

    lr_target = lr_base exp(log_offset) (L_target / L_base)^exponent, L the effective depth; at the
    base itself its tuned rate stays. `plan_transfer(bases=...)` makes it.

    Args:
        exponent: Fitted power of the depth ratio.
        log_offset: Logarithm of the line's rate at the base over the base's tuned rate.
        exponent_sd: Standard deviation of the exponent; kept for the record.

    Raises:
        LawError: An option is not a finite number.

    Example:
        >>> Fitted(exponent=-0.8).options
        {'exponent': -0.8, 'log_offset': 0.0, 'exponent_sd': 0.0}

    Source: docs/definitions.md, section 5.
    """

    exponent: float
    log_offset: float = 0.0
    exponent_sd: float = 0.0

    name: ClassVar[str] = "fitted"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})

    def __post_init__(self) -> None:
        checked_number(self.name, "exponent", self.exponent)
        checked_number(self.name, "log_offset", self.log_offset)
        checked_number(self.name, "exponent_sd", self.exponent_sd, least=0.0)

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
        offset = 0.0 if ratio == 1 else self.log_offset
        return learning_rate(math.exp(offset) * ratio**self.exponent, optimizer=optimizer)
