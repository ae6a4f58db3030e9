"""Laws made from data: the criterion as it was measured, and a power law through tuned sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from etastar.errors import LawError
from etastar.laws.base import Effect, Law, learning_rate
from etastar.laws.path_laws import DepthCount, depth_ratio
from etastar.typed import set_numbers

if TYPE_CHECKING:
    from etastar.laws.base import Factors, ParamPair, TransferCase

__all__ = ["Fitted", "Measured"]


@final
@dataclass(frozen=True)
class Measured(Law):
    """Every rate times sqrt(M_base / M_target), M the mean-square update per squared rate.

    Both are measured with the other laws of the plan in force, so that this factor is what they
    leave to do. `plan_transfer(law="measured", measure=...)` makes it.

    Args:
        base: M of the base network.
        target: M of the target network.

    Raises:
        LawError: A mean square is not positive and finite.

    Example:
        >>> Measured(base=4.0, target=16.0).factor
        0.5

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """

    base: float
    target: float

    name: ClassVar[str] = "measured"
    effects: ClassVar[frozenset[Effect]] = frozenset()

    def __post_init__(self) -> None:
        owner = f"the law {self.name!r}"
        set_numbers(self, "base", "target", error=LawError, least=0, owner=owner)
        for place, value in (("base", self.base), ("target", self.target)):
            if value == 0:
                raise LawError(
                    f"a mean-square update of {value} at the {place}",
                    "a step that moves the pre-activations",
                    "measure on a batch whose gradient reaches the parameters",
                )

    @property
    def factor(self) -> float:
        """sqrt(M_base / M_target)."""
        return math.sqrt(self.base / self.target)

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        return learning_rate(self.factor, optimizer=case.optimizer)


@final
@dataclass(frozen=True)
class Fitted(Law):
    """The learning rate follows a power law through tuned sizes, for every parameter.

    lr_target = lr_base exp(log_offset) (L_target / L_base)^exponent, L as it is counted; at the
    base itself its tuned rate stays. `plan_transfer(law="fitted")` makes it.

    Args:
        exponent: Fitted power of the depth ratio.
        log_offset: Logarithm of the line's rate at the base over the base's tuned rate.
        exponent_sd: Standard deviation of the exponent; kept for the record.
        count: What L is, as in `EffectiveDepth`.

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
    count: DepthCount = "effective"

    name: ClassVar[str] = "fitted"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})

    def __post_init__(self) -> None:
        owner = f"the law {self.name!r}"
        set_numbers(self, "exponent", "log_offset", error=LawError, owner=owner)
        set_numbers(self, "exponent_sd", error=LawError, least=0, owner=owner)

    @property
    def options(self) -> dict[str, Any]:
        """See `EffectiveDepth.options`."""
        options = super().options
        return {k: v for k, v in options.items() if k != "count" or v != "effective"}

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ratio = depth_ratio(case, self.count, law=self.name)
        offset = 0.0 if ratio == 1 else self.log_offset
        return learning_rate(math.exp(offset) * ratio**self.exponent, optimizer=case.optimizer)
