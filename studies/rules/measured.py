"""The rule `measured`: the maximal-update criterion at base and target [JE] [AM]."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from etastar.errors import MeasureError
from etastar.measure import UpdateReport
from studies.measuring import first_training_step
from studies.rules.base import Rule

if TYPE_CHECKING:
    from studies.rules.base import Question


@dataclass(frozen=True)
class MeasuredRule(Rule):
    """lr_base (M_base / M_target)^(1/2), M of the residual stream of both networks at the start.

    Batches, loss and optimizer are the family's. The stored results hold a second rule,
    `measured-self`: the criterion after 20 steps at half of its own rate, which is no longer run.

    Example:
        >>> MeasuredRule().name
        'measured'

    Source: docs/definitions.md, the maximal-update criterion.
    """

    name: str = "measured"

    def rate(self, question: Question) -> float | None:
        """See `Rule.rate`; None where it cannot be measured, infinite if the base's own is 0."""
        found = _reports(question)
        if found is None:
            return None
        base, target = found
        if base.eta_star_of_mean == 0:
            return inf
        return question.base.optimum.lr * target.eta_star_of_mean / base.eta_star_of_mean

    def own_steps(self, question: Question) -> int:
        """See `Rule.own_steps`: those of both measurements."""
        found = _reports(question)
        return 0 if found is None else sum(len(report.seeds) for report in found)


def _reports(question: Question) -> tuple[UpdateReport, UpdateReport] | None:
    family = question.family
    try:
        return (
            first_training_step(family, question.base.size),
            first_training_step(family, question.target),
        )
    except MeasureError:
        return None
