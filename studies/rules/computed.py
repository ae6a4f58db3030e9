"""Rules that compute: depth laws, and a power law through two or three tuned sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.laws import EffectiveDepth, Structure, TunedPoint
from etastar.transfer import FitSizes, Tuned, plan_transfer
from studies.network import captured
from studies.rules.base import Rule

if TYPE_CHECKING:
    from studies.rules.base import Question

_BY_LAYERS = EffectiveDepth(count="layers")


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
        network = question.family.network
        plan = plan_transfer(
            Tuned(captured(network, question.base.size), question.base.optimum.lr),
            captured(network, question.target),
            optimizer=question.family.optimizer.name,
            law=_BY_LAYERS if self.name == "nominal-depth" else self.name,
            width="none",
        )
        rates = {entry.lr for entry in plan.parameters}
        return plan.lr if len(rates) == 1 else None


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
        network = question.family.network
        scaled = getattr(network, "branch_power", 0.0) != 0
        if residual is None or scaled:
            return None
        plan = plan_transfer(
            Tuned(captured(network, question.base.size), question.base.optimum.lr),
            captured(network, question.target),
            optimizer=question.family.optimizer.name,
            law=Structure(residual),
            width="none",
        )
        return plan.lr


@dataclass(frozen=True)
class FittedRule(Rule):
    """Posterior of a power law in effective depth through tuned sizes, by `FitSizes`.

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
        posterior = FitSizes().posterior(tuned)
        return posterior.predict(question.target_architecture.report.effective_depth)
