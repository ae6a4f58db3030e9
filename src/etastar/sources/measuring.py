"""The criterion of named models on named data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from etastar.graph.isolation import global_state_kept
from etastar.measure import measure_update, scan_updates
from etastar.sources.recipe_spec import RecipeSpec, named_recipe
from etastar.transfer import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from etastar.measure import ScanReport, UpdateReport
    from etastar.sweep.recipe import Recipe

__all__ = ["measurable", "measure_named"]

_BATCH_SEED = 0


def measure_named(
    recipe: Recipe,
    sizes: Sequence[Mapping[str, int]] = (),
    *,
    optimizer: str | None = None,
    seeds: int = 3,
    **options: Any,
) -> UpdateReport | ScanReport:
    """Measure the network of a recipe on its data, or its networks of several sizes.

    Args:
        recipe: From `named_recipe`; its batch size is the batch's.
        sizes: Sizes to scan over; none for the network as its settings have it.
        optimizer: Name of an optimizer of several kinds, as Muon is; None for the recipe's own.
        seeds: Number of seeds of the network's initialization.
        **options: Further keyword arguments of `measure_update`.

    Returns:
        The report, or the scan.

    Raises:
        MeasureError: See `measure_update`.

    Example:
        >>> spec = RecipeSpec("zoo:mlp", "digits", "sgd", {"depth": 2, "width": 8}, batch_size=4)
        >>> recipe = named_recipe(spec)
        >>> len(measure_named(recipe, seeds=1).layers)
        2
    """
    every: dict[str, Any] = {"seeds": seeds, **options}
    every["optimizer"] = optimizer or (lambda network: recipe.make_optimizer(network, 1.0))
    where = _batch(recipe), recipe.loss_fn
    if sizes:
        return scan_updates(recipe.make_model, sizes, *where, **every)
    return measure_update(recipe.make_model, *where, **every)


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
