"""The criterion of named models on named data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from etastar.graph.isolation import global_state_kept
from etastar.measure import ScanReport, UpdateReport, depth_scan, measure_update, width_scan
from etastar.sources.experiment import named_experiment
from etastar.sources.sweeping import parse_sizes, size_depths
from etastar.sweep.space import Budget
from etastar.transfer import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from etastar.sweep.space import Experiment

__all__ = ["NamedScan", "measurable", "measure_named", "scan_named"]

_BATCH_SEED = 0
_STEPS_SEED = 1  # batches of the steps before, and of the probe after them, are others


@dataclass(frozen=True)
class NamedScan:
    """A scan, and the setting of the model that it was over.

    Attributes:
        name: Of the setting, "depth".
        scan: The scan.
    """

    name: str
    scan: ScanReport

    def as_dict(self) -> dict[str, Any]:
        """The report of the first size, with the exponent and all points."""
        return {**self.scan.points[0].report.as_dict(), "over": self.name, **self.scan.as_dict()}


def measure_named(experiment: Experiment, *, seeds: Sequence[int], **options: Any) -> UpdateReport:
    """Measure the network of an experiment on its data.

    Args:
        experiment: From `named_experiment`; its budget's batch size is the batch's.
        seeds: Of the network's initialization.
        **options: Further keyword arguments of `measure_update`.

    Returns:
        The report.

    Raises:
        MeasureError: See `measure_update`.

    Example:
        >>> from etastar.sources.experiment import named_experiment
        >>> from etastar.sweep.space import Budget
        >>> experiment = named_experiment(
        ...     "zoo:mlp", settings={"depth": 2, "width": 8}, data="digits", data_options={},
        ...     optimizer="sgd", budget=Budget(num_steps=1, batch_size=4),
        ... )
        >>> len(measure_named(experiment, seeds=[0]).layers)
        3
    """
    return measure_update(
        experiment.factory,
        _batch(experiment),
        experiment.loss_fn,
        optimizer=lambda network: experiment.make_optimizer(network, 1.0),
        seeds=seeds,
        **_with_batches(experiment, options),
    )


def scan_named(
    experiment: Experiment,
    text: str,
    *,
    model: str,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    **options: Any,
) -> NamedScan:
    """Measure the networks of an experiment over one of their settings.

    The fit is over effective depth, where that changes with the setting, else over the setting.

    Args:
        experiment: From `named_experiment`.
        text: "depth=2,4,8".
        model: MODEL, as the command line takes it.
        settings: Its other settings.
        seeds: Of the networks' initialization.
        **options: Further keyword arguments of `measure_update`.

    Returns:
        The scan.

    Raises:
        ModelSpecError: The text is of another form.
        MeasureError: See `measure_update`.
    """
    sizes = parse_sizes([text])
    (name,) = sizes[0]
    depths = size_depths(model, settings, sizes)
    scan = depth_scan if len(set(depths.values())) > 1 else width_scan

    def factory(value: int) -> nn.Module:
        return experiment.factory(**{name: value})

    every: Any = {**_with_batches(experiment, options), "seeds": seeds}
    found = scan(
        factory,
        [size[name] for size in sizes],
        _batch(experiment),
        experiment.loss_fn,
        optimizer=lambda network: experiment.make_optimizer(network, 1.0),
        **every,
    )
    return NamedScan(name, found)


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


def _with_batches(experiment: Experiment, options: dict[str, Any]) -> dict[str, Any]:
    after = options.get("after", 0)

    def batches(seed: int) -> Iterable[tuple[Tensor, Tensor]]:
        return experiment.batches(_STEPS_SEED + seed, experiment.budget.batch_size, after + 1)

    return {**options, "batches": batches} if after else options
