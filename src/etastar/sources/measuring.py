"""The criterion and the coordinate check of named models on named data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from etastar.coordinates import CoordinateReport, coordinate_check
from etastar.graph.capture import graph_of
from etastar.init import initialize_
from etastar.measure import ScanReport, UpdateReport, measure_update, scan_updates
from etastar.sources.recipe_spec import RecipeSpec, named_recipe, run_seed
from etastar.sweep.recipe import Recipe, first_batch, format_size, size_network
from etastar.transfer import Measure

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def measure_named(
    recipe: Recipe,
    sizes: Sequence[Mapping[str, int]] = (),
    *,
    optimizer: str | None = None,
    **options: Any,
) -> UpdateReport | ScanReport:
    """Measure the network of a recipe on its data, or its networks of several sizes.

    `optimizer` names one of several kinds, as Muon is; None stands for the recipe's own. Options
    are those of `measure_update`.

    Example:
        >>> spec = RecipeSpec("zoo:mlp", "digits", "sgd", {"depth": 2, "width": 8}, batch_size=4)
        >>> recipe = named_recipe(spec)
        >>> len(measure_named(recipe, seeds=1).layers)
        2
    """
    where = first_batch(recipe), recipe.loss_fn
    chosen: Any = optimizer or (lambda network: recipe.make_optimizer(network, 1.0))
    if sizes:
        return scan_updates(recipe.make_model, sizes, *where, optimizer=chosen, **options)
    return measure_update(recipe.make_model, *where, optimizer=chosen, **options)


def check_named(
    recipe: Recipe, sizes: Sequence[Mapping[str, int]], *, lr: float, seeds: int = 3
) -> CoordinateReport:
    """Check the coordinates of a recipe's networks, each trained as the recipe trains its size.

    With a plan, every size has the optimizer that the plan has for it; `lr` is that of the base.

    Raises:
        MeasureError: See `coordinate_check`.

    Example:
        >>> recipe = named_recipe(RecipeSpec("zoo:mlp", "digits", "adam", num_steps=1))
        >>> check_named(recipe, [{"width": 16}, {"width": 64}], lr=1e-3, seeds=1).passed
        False
    """

    def make(**size: int) -> tuple[nn.Module, Optimizer]:
        model = recipe.make_model(**size)
        return model, recipe.make_optimizer(model, lr, **size)

    where = first_batch(recipe), recipe.loss_fn
    return coordinate_check(make, sizes, *where, num_steps=recipe.num_steps, seeds=seeds)


def announced(recipe: Recipe, on_network: Callable[[str], None]) -> Recipe:
    """The recipe, each network that it makes told to `on_network` by its number and size."""
    numbers = count(1)

    def make(**size: int) -> nn.Module:
        on_network(f"network {next(numbers)} {format_size(tuple(size.items()))}".rstrip())
        return recipe.make_model(**size)

    return replace(recipe, make_model=make)


def measurable(
    spec: RecipeSpec, sizes: Iterable[Mapping[str, Any]]
) -> tuple[tuple[tuple[nn.Module, Any], ...], Measure]:
    """Networks of a named model that `plan_transfer` can measure, and what to measure them on.

    The plan makes its own optimizer. Each size's network, (model, inputs), is drawn from seed 0;
    where the package initialized it, the measurement knows how to draw its weights anew.

    Raises:
        ModelSpecError: A name or an option is not accepted.

    Example:
        >>> spec = RecipeSpec("zoo:mlp", "digits", "sgd", num_steps=1, batch_size=4)
        >>> networks, measure = measurable(spec, [{"depth": 2}])
        >>> networks[0][1][0].shape
        torch.Size([4, 1, 8, 8])
    """
    recipe = named_recipe(spec)
    networks = tuple(size_network(recipe, tuple(size.items())) for size in sizes)
    rule = spec.residual_rule
    draw = None if rule == "own" else partial(_redraw, rule, networks[0][1])
    return networks, Measure(first_batch(recipe), recipe.loss_fn, draw=draw)


def _redraw(residual: Any, inputs: Any, model: nn.Module) -> None:
    graph = graph_of((model, inputs))
    initialize_(model, graph, residual=residual, seed=run_seed())
