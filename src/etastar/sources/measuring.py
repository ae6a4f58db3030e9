"""The criterion of named models on named data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from etastar.graph.isolation import global_state_kept
from etastar.measure import measure_update, scan_updates
from etastar.sources.experiment import named_experiment
from etastar.sweep.space import Budget
from etastar.transfer import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from etastar.measure import ScanReport, UpdateReport
    from etastar.sweep.space import Experiment

__all__ = ["measurable", "measure_named"]

_BATCH_SEED = 0


def measure_named(
    experiment: Experiment,
    sizes: Sequence[Mapping[str, int]] = (),
    *,
    optimizer: str | None = None,
    seeds: int = 3,
    **options: Any,
) -> UpdateReport | ScanReport:
    """Measure the network of an experiment on its data, or its networks of several sizes.

    Args:
        experiment: From `named_experiment`; its budget's batch size is the batch's.
        sizes: Sizes to scan over; none for the network as its settings have it.
        optimizer: Name of an optimizer of several kinds, as Muon is; None for the experiment's own.
        seeds: Number of seeds of the network's initialization.
        **options: Further keyword arguments of `measure_update`.

    Returns:
        The report, or the scan.

    Raises:
        MeasureError: See `measure_update`.

    Example:
        >>> from etastar.sources.experiment import named_experiment
        >>> from etastar.sweep.space import Budget
        >>> experiment = named_experiment(
        ...     "zoo:mlp", settings={"depth": 2, "width": 8}, data="digits", data_options={},
        ...     optimizer="sgd", budget=Budget(num_steps=1, batch_size=4),
        ... )
        >>> len(measure_named(experiment, seeds=1).layers)
        2
    """
    every: dict[str, Any] = {"seeds": seeds, **options}
    every["optimizer"] = optimizer or (lambda network: experiment.make_optimizer(network, 1.0))
    where = _batch(experiment), experiment.loss_fn
    if sizes:
        return scan_updates(experiment.factory, sizes, *where, **every)
    return measure_update(experiment.factory, *where, **every)


def measurable(
    model: str,
    sizes: Iterable[Mapping[str, Any]],
    *,
    data: str,
    data_options: dict[str, Any],
    init: str,
    batch_size: int,
) -> tuple[tuple[tuple[nn.Module, tuple[Tensor]], ...], Measure]:
    """Networks of a named model that `plan_transfer` can measure, and what to measure them on.

    Args:
        model: MODEL, as the command line takes it.
        sizes: All settings of each network.
        data: Name of a data set.
        data_options: Options of its loader.
        init: Of the networks; one of `INITS`.
        batch_size: Examples in the batch.

    Returns:
        (model, (inputs,)) of each size, drawn from seed 0, and the batch with the data's loss.

    Raises:
        ModelSpecError: A name or an option is not accepted.

    Example:
        >>> networks, measure = measurable(
        ...     "zoo:mlp", [{"depth": 2}], data="digits", data_options={}, init="all", batch_size=4
        ... )
        >>> networks[0][1][0].shape
        torch.Size([4, 1, 8, 8])
    """
    experiment = named_experiment(
        model,
        settings={},
        data=data,
        data_options=data_options,
        optimizer="sgd",  # the plan makes its own
        init=init,
        budget=Budget(1, batch_size),
    )
    batch = _batch(experiment)
    networks = []
    for size in sizes:
        with global_state_kept():
            torch.manual_seed(0)
            networks.append((experiment.factory(**size), (batch[0],)))
    return tuple(networks), Measure(batch, experiment.loss_fn)


def _batch(experiment: Experiment) -> tuple[Tensor, Tensor]:
    return next(iter(experiment.batches(_BATCH_SEED, experiment.budget.batch_size, 1)))
