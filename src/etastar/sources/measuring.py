"""The criterion of named models on named data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from etastar.graph.isolation import global_state_kept
from etastar.measure import ScanReport, UpdateReport, depth_scan, measure_update, width_scan
from etastar.sources.recipe_spec import RecipeSpec, named_recipe
from etastar.sources.sweeping import parse_sizes, size_depths
from etastar.transfer import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from etastar.sweep.recipe import Recipe

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


def measure_named(recipe: Recipe, *, seeds: Sequence[int], **options: Any) -> UpdateReport:
    """Measure the network of a recipe on its data.

    Args:
        recipe: From `named_recipe`; its batch size is the batch's.
        seeds: Of the network's initialization.
        **options: Further keyword arguments of `measure_update`.

    Returns:
        The report.

    Raises:
        MeasureError: See `measure_update`.

    Example:
        >>> from etastar.sources.recipe_spec import RecipeSpec, named_recipe
        >>> spec = RecipeSpec("zoo:mlp", "digits", "sgd", {"depth": 2, "width": 8}, batch_size=4)
        >>> recipe = named_recipe(spec)
        >>> len(measure_named(recipe, seeds=[0]).layers)
        3
    """
    return measure_update(
        recipe.make_model,
        _batch(recipe),
        recipe.loss_fn,
        optimizer=lambda network: recipe.make_optimizer(network, 1.0),
        seeds=seeds,
        **_with_batches(recipe, options),
    )


def scan_named(
    recipe: Recipe,
    text: str,
    *,
    model: str,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    **options: Any,
) -> NamedScan:
    """Measure the networks of a recipe over one of their settings.

    The fit is over effective depth, where that changes with the setting, else over the setting.

    Args:
        recipe: From `named_recipe`.
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
        return recipe.make_model(**{name: value})

    every: Any = {**_with_batches(recipe, options), "seeds": seeds}
    found = scan(
        factory,
        [size[name] for size in sizes],
        _batch(recipe),
        recipe.loss_fn,
        optimizer=lambda network: recipe.make_optimizer(network, 1.0),
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
    spec = RecipeSpec(
        model,
        data,
        optimizer="sgd",  # the plan makes its own
        data_options=data_options,
        init=init,
        num_steps=1,
        batch_size=batch_size,
    )
    recipe = named_recipe(spec)
    batch = _batch(recipe)
    networks = []
    for size in sizes:
        with global_state_kept():
            torch.manual_seed(0)
            networks.append((recipe.make_model(**size), (batch[0],)))
    return tuple(networks), Measure(batch, recipe.loss_fn)


def _batch(recipe: Recipe) -> tuple[Tensor, Tensor]:
    batch: tuple[Tensor, Tensor] = next(iter(recipe.batches(_BATCH_SEED)))
    return batch


def _with_batches(recipe: Recipe, options: dict[str, Any]) -> dict[str, Any]:
    after = options.get("after", 0)

    def batches(seed: int) -> Iterable[tuple[Tensor, Tensor]]:
        return recipe.batches(_STEPS_SEED + seed)

    return {**options, "batches": batches} if after else options
