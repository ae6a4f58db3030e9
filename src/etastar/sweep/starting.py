"""What is known of a size before any run: its network, its depth, and the rate that it allows."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from etastar.errors import EtastarError, TrialError
from etastar.graph.capture import graph_of
from etastar.graph.isolation import global_state_kept
from etastar.measure import measure_update
from etastar.measure.batch import read_batch
from etastar.sweep.recipe import format_size
from etastar.sweep.trial import user_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from etastar.sweep.recipe import Recipe, Size

__all__ = ["first_batch", "measured_start", "size_depth", "size_network"]


def measured_start(recipe: Recipe, size: Size, seeds: Sequence[int]) -> float:
    """The learning rate that the maximal-update criterion allows before training.

    eta* = sqrt(1 / M), M the mean square over the outputs of all weight layers, per squared rate,
    that one step of the recipe's own optimizer makes on its first batch; averaged over seeds.
    It is given in the rate that `make_optimizer` takes, and in two digits, so that every machine
    that shares a sweep starts from the same lattice. Costs about seven forward passes per seed.

    Args:
        recipe: What a run is.
        size: Size of the network.
        seeds: Of the initialization; the batch is the first one of the first seed.

    Returns:
        The rate: a place to start a search from, not an optimum.

    Raises:
        TrialError: The criterion cannot be measured here, or allows no finite rate.

    Example:
        >>> from torch import nn
        >>> from etastar.sweep.recipe import Recipe
        >>> recipe = Recipe(
        ...     make_model=lambda width: nn.Linear(width, 1, bias=False),
        ...     batches=lambda seed: [(torch.full((4, 1), 2.0), torch.ones(1))],
        ...     loss_fn=lambda output, targets: output.mean(),
        ...     make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        ...     num_steps=9,
        ...     batch_size=4,
        ... )
        >>> measured_start(recipe, (("width", 1),), seeds=[0])
        0.25

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """
    try:
        with user_errors("the first step"):
            eta_star = measure_update(
                lambda: recipe.make_model(**dict(size)),
                first_batch(recipe, seeds[0]),
                recipe.loss_fn,
                optimizer=lambda model: recipe.make_optimizer(model, 1.0, **dict(size)),
                seeds=tuple(seeds),
                pre_activations="layers",
                lr_unit=1.0,
            ).eta_star
    except EtastarError as error:
        raise _not_measured(size, error.received) from error
    if not (isfinite(eta_star) and eta_star > 0):
        why = f"eta* = {eta_star}: the loss is not finite, or a step changes no output"
        raise _not_measured(size, why)
    return float(f"{eta_star:.2g}")


def size_depth(recipe: Recipe, size: Size) -> float | None:
    """The effective depth of a size, by which a search predicts its optimum from those before.

    Args:
        recipe: What a run is; its `depth` is asked, or else its model is captured on its first
            batch.
        size: Size of the network.

    Returns:
        The depth; None where the model cannot be captured. The search then takes the size's own
        "depth"; a model that does not run at all raises in its first run.

    Raises:
        TrialError: A function of the recipe raised.

    Example:
        >>> from torch import nn
        >>> from etastar.sweep.recipe import Recipe
        >>> recipe = Recipe(
        ...     make_model=lambda depth: nn.Sequential(*[nn.Linear(2, 2) for _ in range(depth)]),
        ...     batches=lambda seed: [(torch.ones(4, 2), torch.zeros(4, 2))],
        ...     loss_fn=nn.functional.mse_loss,
        ...     make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        ...     num_steps=1,
        ...     batch_size=4,
        ... )
        >>> size_depth(recipe, (("depth", 3),))
        3.0
    """
    if recipe.depth is not None:
        with user_errors(f"the depth of {format_size(size)}"):
            return float(recipe.depth(**dict(size)))
    network = size_network(recipe, size)
    try:
        return float(graph_of(network).depth().effective_depth)
    except EtastarError:
        return None


def size_network(recipe: Recipe, size: Size, *, device: str = "cpu") -> tuple[nn.Module, Any]:
    """The network of a size as its first run begins with it, and one batch of inputs.

    Args:
        recipe: What a run is.
        size: Size of the network.
        device: "cpu", or "meta" for shapes alone.

    Returns:
        (model, inputs), a `NetworkLike`.

    Raises:
        TrialError: A function of the recipe raised.
    """
    with user_errors(f"the network of {format_size(size)}"):
        examples = read_batch(first_batch(recipe))
        with global_state_kept(), torch.device(device):
            torch.default_generator.manual_seed(0)
            model = recipe.make_model(**dict(size))
    return model, examples.kwargs or examples.args


def first_batch(recipe: Recipe, seed: int = 0) -> Any:
    """The first batch of a seed, drawn from random numbers of that seed.

    Args:
        recipe: What a run is.
        seed: Of the run.

    Returns:
        The batch.
    """
    with global_state_kept():
        torch.default_generator.manual_seed(seed)
        return next(iter(recipe.batches(seed)))


def _not_measured(size: Size, why: str) -> TrialError:
    return TrialError(
        f"no start for the search of {format_size(size)}: {why}",
        "a model, a batch and an optimizer of which one step can be measured",
        "mend what is said, or give the search a start: Bracket(start=...), --lr",
    )
