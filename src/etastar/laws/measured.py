"""The measured law: the learning rate keeps the criterion's mean-square update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from etastar.errors import LawError
from etastar.laws.base import Effect, Law, checked_number, learning_rate

if TYPE_CHECKING:
    from etastar.laws.base import Architecture, Factors, ParamPair
    from etastar.optimizers import OptimizerKind

__all__ = ["Measured"]


@final
@dataclass(frozen=True)
class Measured(Law):
    """Every rate times sqrt(M_base / M_target), M the mean-square update per squared rate.

    Both are measured with the other laws of the plan in force, so that this factor is what they
    leave to do. `plan_transfer(law="measured", measure=...)` makes it.

    Args:
        base: M of the base network.
        target: M of the target network.
        roles: For single factors by role: (role, M_base, M_target) with the parameters of that role
            moving alone; roles that are missing take the factor of the network.

    Raises:
        LawError: A mean square is not positive and finite.

    Example:
        >>> Measured(base=4.0, target=16.0).factor("hidden")
        0.5

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """

    base: float
    target: float
    roles: tuple[tuple[str, float, float], ...] = ()

    name: ClassVar[str] = "measured"
    effects: ClassVar[frozenset[Effect]] = frozenset()

    def __post_init__(self) -> None:
        for role, base, target in (("network", self.base, self.target), *self.roles):
            for place, value in (("base", base), ("target", target)):
                checked_number(self.name, f"{place} ({role})", value)
                if value <= 0:
                    raise LawError(
                        f"a mean-square update of {value} at the {place} ({role})",
                        "a step that moves the pre-activations",
                        "measure on a batch whose gradient reaches the parameters",
                    )

    def factor(self, role: str) -> float:
        """sqrt(M_base / M_target) for parameters of a role.

        Args:
            role: Role of a parameter.

        Returns:
            The factor on the learning rate.
        """
        by_role = {name: (base, target) for name, base, target in self.roles}
        base, target = by_role.get(role, (self.base, self.target))
        return math.sqrt(base / target)

    @property
    def options(self) -> dict[str, Any]:
        """M of both networks, and the factor of every role that has one of its own."""
        single = {f"{role} factor": self.factor(role) for role, _, _ in self.roles}
        return {"base": self.base, "target": self.target, **single}

    def factors(
        self,
        pair: ParamPair,
        *,
        base: Architecture,
        target: Architecture,
        optimizer: OptimizerKind,
    ) -> Factors:
        """See `Law.factors`."""
        return learning_rate(self.factor(pair.target.role), optimizer=optimizer)
