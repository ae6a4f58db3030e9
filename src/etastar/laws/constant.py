"""The constant law: the same learning rate at every depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from etastar.laws.base import Effect, Factors, Law

if TYPE_CHECKING:
    from etastar.laws.base import Architecture, ParamPair
    from etastar.optimizers import OptimizerKind

__all__ = ["Constant"]


@final
@dataclass(frozen=True)
class Constant(Law):
    """The learning rate does not depend on depth: every factor is 1.

    Example:
        >>> Constant().options
        {}
    """

    name: ClassVar[str] = "constant"
    effects: ClassVar[frozenset[Effect]] = frozenset()

    def factors(
        self,
        pair: ParamPair,
        *,
        base: Architecture,
        target: Architecture,
        optimizer: OptimizerKind,
    ) -> Factors:
        """See `Law.factors`."""
        return Factors()
