"""Rules that are depth laws: the rate that a transfer plan gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.experiments.rules.base import Rule
from etastar.transfer import Tuned, plan_transfer
from etastar.transfer.auto import CANDIDATES

if TYPE_CHECKING:
    from etastar.experiments.rules.base import Question

__all__ = ["ByLaw"]


@dataclass(frozen=True)
class ByLaw(Rule):
    """The base's rate times a law's factor, by `plan_transfer` without the width rule.

    Args:
        name: Name of a law that rescales the learning rate over depth, alike for all parameters.

    Example:
        >>> ByLaw("effective-depth").num_bases
        1
    """

    name: str

    def rate(self, question: Question) -> float | None:
        """See `Rule.rate`; None where the law gives parameters different rates."""
        plan = plan_transfer(
            Tuned(question.base.architecture, question.base.optimum.lr),
            question.target_architecture,
            optimizer=question.family.optimizer.name,
            law=CANDIDATES[self.name](),
            width="none",
        )
        rates = {entry.lr for entry in plan.parameters}
        return plan.lr if len(rates) == 1 else None
