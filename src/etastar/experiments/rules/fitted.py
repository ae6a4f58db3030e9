"""The rule `fitted`: a power law through two or three tuned sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.experiments.rules.base import Rule
from etastar.laws import TunedPoint
from etastar.transfer import fit_tuned

if TYPE_CHECKING:
    from etastar.experiments.rules.base import Question

__all__ = ["FittedRule"]


@dataclass(frozen=True)
class FittedRule(Rule):
    """Posterior of a power law in effective depth through tuned sizes, by `fit_tuned`.

    Args:
        num_bases: How many sizes, two or more.

    Example:
        >>> FittedRule(3).name
        'fitted-3'
    """

    num_bases: int = 2

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the number of sizes, since what it costs depends on it."""
        return f"fitted-{self.num_bases}"

    def rate(self, question: Question) -> float | None:
        """See `Rule.rate`; None where the bases do not differ in effective depth."""
        depths = {base.architecture.report.effective_depth for base in question.bases}
        if len(depths) < len(question.bases):
            return None
        tuned = [
            TunedPoint(
                base.architecture, base.optimum.lr, math.sqrt(base.optimum.log_variance or 0)
            )
            for base in question.bases
        ]
        posterior = fit_tuned(tuned).posterior
        return posterior.predict(question.target_architecture.report.effective_depth)
