"""The parts of a family's run: model, data, loss, optimizer; all picklable for other processes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etastar.datasets import Dataset
from etastar.optimizers import OPTIMIZERS, optimizer_class
from etastar.sweep.recipe import Size
from etastar.transfer import TransferPlan, Tuned, plan_transfer
from studies.data_sets import load_named
from studies.mup_package import MUP_OPTIMIZERS
from studies.network import captured

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from studies.declaration import Data, Family


@lru_cache(maxsize=4)
def load_data(data: Data) -> Dataset:
    """A data set, loaded once in a process.

    Args:
        data: Which.

    Returns:
        The data set.
    """
    return load_named(data.name, **dict(data.options))


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats over examples, and positions where there are any.

    Args:
        scores: (batch, classes) or (batch, time, tokens).
        targets: (batch,) or (batch, time).

    Returns:
        A scalar.

    Example:
        >>> round(cross_entropy(torch.zeros(2, 10), torch.tensor([3, 4])).item(), 4)
        2.3026
    """
    return F.cross_entropy(scores.flatten(0, -2), targets.flatten())


@lru_cache(maxsize=64)
def family_plan(family: Family, size: Size) -> TransferPlan | None:
    """The plan that a family's parametrization makes at a size, for a base rate of 1.

    Args:
        family: The declaration.
        size: A size of it.

    Returns:
        The plan; None without a parametrization.
    """
    chosen = family.parametrization
    if chosen is None:
        return None
    return plan_transfer(
        Tuned(
            captured(family.network, chosen.base),
            lr=1.0,
            weight_decay=dict(family.optimizer.options).get("weight_decay", 0.0),
        ),
        captured(family.network, size),
        optimizer=family.optimizer.name,
        law=chosen.law,
        width=chosen.width,
    )


def initialized_model(family: Family, **size: int) -> nn.Module:
    """A model of one size, initialized as the family says, its plan's factors included.

    Args:
        family: The declaration.
        **size: Arguments of the network's factory.

    Returns:
        The model; what is drawn comes from PyTorch's global seed.
    """
    key = tuple(sorted(size.items()))
    graph = captured(family.network, key)
    model = family.network.build(**size)
    family.initialization.apply_(model, graph, family=family, seed=torch.initial_seed())
    plan = family_plan(family, key)
    if plan is not None:
        plan.rescale_(model)
    return model


def family_optimizer(family: Family, model: nn.Module, lr: float, **size: int) -> Optimizer:
    """The optimizer at a base rate: one rate, or the plan's groups times it.

    Args:
        family: The declaration.
        model: A model of this size.
        lr: The base rate.
        **size: Arguments of the network's factory.

    Returns:
        The optimizer.

    Raises:
        PlanError: The family has a parametrization, and the model another size.
    """
    options = dict(family.optimizer.options)
    plan = family_plan(family, tuple(sorted(size.items())))
    if plan is None:
        parameters: Any = model.parameters()
    else:
        parameters = [{**group, "lr": group["lr"] * lr} for group in plan.param_groups(model)]
    name = family.optimizer.name
    make: Any = MUP_OPTIMIZERS.get(name) or optimizer_class(OPTIMIZERS[name])
    made: Optimizer = make(parameters, lr=lr, **options)
    return made


def family_batches(
    family: Family, seed: int, *, num_steps: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches (inputs, targets) in the order of a seed.

    Args:
        family: Its data and budget.
        seed: Of the order.
        num_steps: How many; the budget's, if None.

    Returns:
        The batches.
    """
    steps = family.budget.num_steps if num_steps is None else num_steps
    return iter(load_data(family.data).batches(seed, family.budget.batch_size, steps))
