"""The rules `measured`: the maximal-update criterion at base and target [JE] [AM]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from etastar.errors import MeasureError
from etastar.experiments.rules.base import Rule
from etastar.experiments.training import family_experiment, load_data
from etastar.measure import UpdateReport, measure_update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from etastar.experiments.declaration import Family
    from etastar.experiments.rules.base import Question
    from etastar.sweep.space import Size

__all__ = ["MeasuredRule"]

_OTHER_BATCHES: Final = 20_000
"""Added to seeds, so that the criterion does not see the batches of the training."""

_KAPPA: Final = 0.5


@dataclass(frozen=True)
class MeasuredRule(Rule):
    """lr_base (M_base / M_target)^(1/2), M of the residual stream of both networks.

    Batches, loss and optimizer are the family's. `after` steps are real ones, at kappa times the
    rate that the criterion then gives (self-consistent; where the rounds of `measure_update` end
    before they agree, the last one counts); 0 measures the initialization.

    Args:
        after: Steps before the one that is measured; a shorter budget is taken whole.

    Example:
        >>> MeasuredRule().name, MeasuredRule(after=20).name
        ('measured', 'measured-self')

    Source: docs/definitions.md, the maximal-update criterion.
    """

    after: int = 0

    @property
    def name(self) -> str:  # type: ignore[override]
        """Whether the network trains before it is measured."""
        return "measured-self" if self.after else "measured"

    def rate(self, question: Question) -> float | None:
        """See `Rule.rate`; None where it cannot be measured, infinite if the base's own is 0."""
        found = self._reports(question)
        if found is None:
            return None
        base, target = found
        if base.eta_star == 0:
            return inf
        return question.base.optimum.lr * target.eta_star / base.eta_star

    def own_steps(self, question: Question) -> int:
        """See `Rule.own_steps`: those of both measurements."""
        found = self._reports(question)
        return 0 if found is None else sum(report.cost_steps for report in found)

    def _reports(self, question: Question) -> tuple[UpdateReport, UpdateReport] | None:
        family = question.family
        try:
            return (
                _report(family, question.base.size, self.after),
                _report(family, question.target, self.after),
            )
        except MeasureError:
            return None


@lru_cache(maxsize=64)
def _report(family: Family, size: Size, after: int) -> UpdateReport:
    """The criterion of one size, measured once in a process."""
    experiment = family_experiment(family)
    after = min(after, family.budget.num_steps)
    options: dict[str, Any] = {}
    if after:
        options = {"after": after, "kappa": _KAPPA, "batches": partial(_batches, family, after)}
    return measure_update(
        partial(experiment.factory, **dict(size)),
        next(_batches(family, 0, family.seeds[0] - 1)),
        experiment.loss_fn,
        optimizer=partial(_optimizer, family),
        seeds=family.seeds,
        pre_activations="stream",
        **options,
    )


def _batches(family: Family, after: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for the steps, and one for the probe."""
    size = family.budget.batch_size
    return iter(load_data(family.data).batches(seed + _OTHER_BATCHES, size, after + 1))


def _optimizer(family: Family, model: nn.Module) -> Optimizer:
    """At a rate of 1: only the direction of a step counts, or the rate is set before it."""
    return family_experiment(family).make_optimizer(model, 1.0)
