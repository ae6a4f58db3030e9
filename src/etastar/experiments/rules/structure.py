"""The rule `structure`: the law of that name, told how the family is initialized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.experiments.rules.base import Rule
from etastar.laws import Structure
from etastar.transfer import Tuned, plan_transfer

if TYPE_CHECKING:
    from etastar.experiments.rules.base import Question

__all__ = ["StructureRule"]


@dataclass(frozen=True)
class StructureRule(Rule):
    """The base's rate times the factor of `Structure`, for the branch weights that carry 1/K.

    Example:
        >>> StructureRule().name
        'structure'
    """

    name: str = "structure"

    def rate(self, question: Question) -> float | None:
        """See `Rule.rate`; None where the forward pass scales the branches, which it cannot see."""
        residual = getattr(question.family.initialization, "residual", None)
        scaled = getattr(question.family.network, "branch_power", 0.0) != 0
        if residual is None or scaled:
            return None
        plan = plan_transfer(
            Tuned(question.base.architecture, question.base.optimum.lr),
            question.target_architecture,
            optimizer=question.family.optimizer.name,
            law=Structure(residual),
            width="none",
        )
        return plan.lr
