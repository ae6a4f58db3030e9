"""Where the search of the first size starts, when nobody says."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import torch

from etastar.errors import EtastarError, TrialError
from etastar.graph.isolation import global_state_kept
from etastar.measure import measure_update
from etastar.sweep.space import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from etastar.sweep.space import Experiment, Size

__all__ = ["measured_start"]


def measured_start(experiment: Experiment, size: Size, seeds: Sequence[int]) -> float:
    """The learning rate that the maximal-update criterion allows before training.

    eta* = sqrt(1 / M), M the mean square over the outputs of all weight layers, per squared rate,
    that one step of the experiment's own optimizer makes on its first batch; averaged over seeds.
    It is told in the rate that `make_optimizer` takes, and in two digits, so that every machine
    that shares a sweep starts from the same lattice. Costs six forward passes per seed.

    Args:
        experiment: What a run is.
        size: Size of the network.
        seeds: Of the initialization; the batch is the first one of the first seed.

    Returns:
        The rate: a place to start a search from, not an optimum.

    Raises:
        TrialError: The criterion cannot be measured here, or allows no finite rate.

    Example:
        >>> from torch import nn
        >>> from etastar.sweep.space import Budget, Experiment
        >>> experiment = Experiment(
        ...     factory=lambda width: nn.Linear(width, 1, bias=False),
        ...     batches=lambda seed, size, steps: [(torch.full((size, 1), 2.0), torch.ones(1))],
        ...     loss_fn=lambda output, targets: output.mean(),
        ...     make_optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        ...     budget=Budget(num_steps=9, batch_size=4),
        ... )
        >>> measured_start(experiment, (("width", 1),), seeds=[0])
        0.25

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """
    try:
        eta_star = measure_update(
            lambda: experiment.factory(**dict(size)),
            _first_batch(experiment, seeds[0]),
            experiment.loss_fn,
            optimizer=lambda model: experiment.make_optimizer(model, 1.0),
            seeds=tuple(seeds),
            pre_activations="layers",
            lr_unit=1.0,
        ).eta_star
    except EtastarError as error:
        raise _not_measured(size, error.received) from error
    except Exception as error:
        raise _not_measured(size, f"{type(error).__name__}: {error}") from error
    if not (isfinite(eta_star) and eta_star > 0):
        why = f"eta* = {eta_star}: the loss is not finite, or a step changes no output"
        raise _not_measured(size, why)
    return float(f"{eta_star:.2g}")


def _first_batch(experiment: Experiment, seed: int) -> tuple[Tensor, Tensor]:
    """The batch that a run of this seed begins with, drawn from the same random numbers."""
    budget = experiment.budget
    with global_state_kept():
        torch.default_generator.manual_seed(seed)
        return next(iter(experiment.batches(seed, budget.batch_size, budget.num_steps)))


def _not_measured(size: Size, why: str) -> TrialError:
    return TrialError(
        f"no start for the search of {format_size(size)}: {why}",
        "a model, a batch and an optimizer of which one step can be measured",
        "mend what is said, or give the search a start: Bracket(start=...), --lr",
    )
