"""A family whose optimum is computed: the maximal-update rate of the first step [JE]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from etastar.experiments.exponents import family_fits
from etastar.experiments.network import network_architecture
from etastar.experiments.training import initialized_model, load_data
from etastar.fit import Optimum
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.measure import measure_update
from etastar.naming import canonical_parameters
from etastar.report.evidence import FamilyEvidence
from etastar.sweep.result import SizeResult

if TYPE_CHECKING:
    from torch import Tensor, nn

    from etastar.experiments.declaration import Family
    from etastar.experiments.gathering import Workplace
    from etastar.measure import UpdateReport
    from etastar.sweep.space import Size

__all__ = ["CriterionFamily", "linear_loss"]

_NUM_RESAMPLES = 1000
_CONFIDENCE = 0.95


def linear_loss(output: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples of the sum of the outputs over the root of their number.

    Its gradient at the outputs does not depend on them, as the theory assumes.

    Args:
        output: (batch, outputs).
        targets: Not used.

    Returns:
        A scalar.

    Example:
        >>> linear_loss(torch.ones(3, 4), torch.zeros(3)).item()
        2.0
    """
    loss: Tensor = output.sum(1).mean() / output.shape[1] ** 0.5
    return loss


@dataclass(frozen=True)
class CriterionFamily:
    """Networks whose eta* is that of the criterion: S(eta*) = 1 for the first SGD step.

    The optimum of a size is eta* = M^(-1/2), M the mean of the seeds' mean-square updates; where
    a sweep's record has the lowest loss, this one has the criterion's value, 1.

    Attributes:
        family: Network, initialization, sizes, seeds, axes; the batch is the first
            `budget.batch_size` training examples. Nothing is trained.
        weights: What the step changes and which pre-activations count: all, or the hidden weights
            and the outputs of all layers but the last.
    """

    family: Family
    weights: Literal["all", "hidden"] = "all"

    @property
    def name(self) -> str:
        """The family's."""
        return self.family.name

    def gather(self, work: Workplace) -> FamilyEvidence:
        """See `AnyFamily.gather`; nothing is kept in the store, for it takes seconds.

        Args:
            work: Not used.

        Returns:
            Optima and exponents; no runs and no regrets.
        """
        sizes = tuple(SizeResult(size, (), self._optimum(size)) for size in self.family.sizes)
        axes, fits = family_fits(self.family, sizes)
        settings = {
            **self.family.settings,
            "optimizer": "sgd, first step",
            "examples": str(self.family.budget.batch_size),
            "loss": "linear",
            "seeds": f"0 to {len(self.family.seeds) - 1}",
            "weights": self.weights,
        }
        return FamilyEvidence(
            name=self.name,
            group=self.family.group,
            settings=tuple(sorted(settings.items())),
            sizes=sizes,
            axes=axes,
            fits=fits,
        )

    def _optimum(self, size: Size) -> Optimum:
        report = self._measured(size)
        by_seed = np.array(report.by_seed)
        draws = resampled_seeds(len(by_seed), num_resamples=_NUM_RESAMPLES, seed=0)
        resampled = np.sqrt(1.0 / by_seed[draws].mean(1))
        return Optimum(
            lr=report.eta_star,
            loss=1.0,
            lowest_lr=report.eta_star,
            lowest_loss=1.0,
            method="lowest point",
            at_edge=False,
            num_seeds=len(by_seed),
            num_diverged=0,
            interval=percentile_interval(resampled, _CONFIDENCE),
            resampled_lrs=tuple(resampled.tolist()),
        )

    def _measured(self, size: Size) -> UpdateReport:
        family, data = self.family, load_data(self.family.data)
        count = family.budget.batch_size
        return measure_update(
            partial(initialized_model, family, **dict(size)),
            (data.train_inputs[:count], data.train_targets[:count]),
            linear_loss,
            optimizer=partial(self._optimizer, size),
            seeds=family.seeds,
            pre_activations="layers" if self.weights == "all" else "hidden",
        )

    def _optimizer(self, size: Size, model: nn.Module) -> torch.optim.Optimizer:
        if self.weights == "all":
            return torch.optim.SGD(model.parameters(), lr=1.0)
        roles = network_architecture(self.family.network, size).parameters
        parameters = canonical_parameters(model)
        hidden = [parameters[info.name] for info in roles if info.role == "hidden"]
        return torch.optim.SGD(hidden, lr=1.0)
