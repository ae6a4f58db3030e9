"""Where studies meet the criterion: the one place that measures a step [JE] [AM]."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

import torch

from etastar.measure import UpdateReport, measure_update
from etastar.measure.differences import PreActivations
from etastar.naming import canonical_parameters
from etastar.sweep.recipe import Size
from studies.network import network_architecture
from studies.training import (
    cross_entropy,
    family_batches,
    family_optimizer,
    initialized_model,
    load_data,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from studies.declaration import CriterionFamily, Family

_OTHER_BATCHES: Final = 20_000
"""Added to seeds, so that the criterion does not see the batches of the training."""


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


@lru_cache(maxsize=64)
def first_training_step(
    family: Family,
    size: Size,
    *,
    seeds: tuple[int, ...] | None = None,
    data_seed: int | None = None,
    pre_activations: PreActivations = "stream",
    lr_unit: float | None = None,
) -> UpdateReport:
    """The criterion of one size under the family's own loss and optimizer.

    Args:
        family: Network, initialization, data, optimizer and seeds.
        size: One of its sizes.
        seeds: Of the initialization; the family's, if None.
        data_seed: Of the order of the examples; one that no run of the family has, if None.
        pre_activations: Which count.
        lr_unit: Rate that eta* is a multiple of; that of the optimizer's groups, if None.

    Returns:
        The report; measured once in a process.

    Raises:
        MeasureError: It cannot be measured.
    """
    order = family.seeds[0] - 1 + _OTHER_BATCHES if data_seed is None else data_seed
    return measure_update(
        partial(initialized_model, family, **dict(size)),
        next(family_batches(family, order, num_steps=1)),
        cross_entropy,
        optimizer=lambda model: family_optimizer(family, model, 1.0, **dict(size)),
        seeds=family.seeds if seeds is None else seeds,
        pre_activations=pre_activations,
        lr_unit=lr_unit,
    )


def first_sgd_step(criterion: CriterionFamily, size: Size) -> UpdateReport:
    """The criterion of one size for SGD and the linear loss, on the first training examples.

    Args:
        criterion: Network, initialization, data and seeds; which weights are stepped.
        size: One of its sizes.

    Returns:
        The report.
    """
    family, data = criterion.family, load_data(criterion.family.data)
    count = family.budget.batch_size
    return measure_update(
        partial(initialized_model, family, **dict(size)),
        (data.train_inputs[:count], data.train_targets[:count]),
        linear_loss,
        optimizer=partial(_sgd, criterion, size),
        seeds=family.seeds,
        pre_activations="layers" if criterion.weights == "all" else "hidden",
    )


def _sgd(criterion: CriterionFamily, size: Size, model: nn.Module) -> torch.optim.Optimizer:
    if criterion.weights == "all":
        return torch.optim.SGD(model.parameters(), lr=1.0)
    roles = network_architecture(criterion.family.network, size).parameters
    parameters = canonical_parameters(model)
    hidden = [parameters[info.name] for info in roles if info.role == "hidden"]
    return torch.optim.SGD(hidden, lr=1.0)
