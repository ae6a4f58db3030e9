"""One training run, from a recipe, a size and a point to its record."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from etastar.errors import TrialError
from etastar.graph.arguments import map_tensors
from etastar.graph.isolation import (
    ambient_modes_left,
    global_state_kept,
    random_numbers_kept,
    require_plain_execution,
)
from etastar.measure.batch import own_loss, read_batch
from etastar.sweep.recipe import (
    DIVERGENCE_FACTOR,
    FINAL_FRACTION,
    Point,
    Recipe,
    Size,
    format_size,
    user_errors,
)

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@dataclass(frozen=True)
class TrialRecord:
    """What one run came to, and where it ran.

    Attributes:
        size: Size of the network.
        point: Learning rate and seed.
        loss: By the recipe's objective; +inf for a diverged run.
        losses: Training loss of each step's batch, taken before the step; of a diverged run the
            last one is the loss that showed it.
        diverged: Whether the run stopped because its loss was no longer reasonable.
        steps: Optimizer steps taken; what the run cost.
        initial_loss: Loss of the first batch, before anything was learned.
        device: Device it ran on.
        versions: Package and version, "torch" among them.
        failed: Why the run was stopped from outside; its loss counts as +inf. "" if it was not.
    """

    size: Size
    point: Point
    loss: float
    losses: tuple[float, ...]
    diverged: bool
    steps: int
    initial_loss: float
    device: str = "cpu"
    versions: tuple[tuple[str, str], ...] = ()
    failed: str = ""


def run_trial(
    recipe: Recipe, size: Size, point: Point, *, device: torch.device | str = "cpu"
) -> TrialRecord:
    """Train one size at one learning rate from one seed, in this process.

    A run has diverged when a loss is not finite or is more than 100 times the size of the first
    one (of a first loss of exactly 0, only the former). It then stops; its loss is
    +inf. The seed decides everything that is drawn from PyTorch's global random numbers, in the
    batches too; they are put back afterwards.

    Raises:
        TrialError: A function of the recipe raised, or the batches ended early.

    Example:
        >>> from torch import nn
        >>> from etastar.sweep.recipe import Point, Recipe
        >>> recipe = Recipe(
        ...     make_model=lambda width: nn.Linear(width, 1),
        ...     batches=lambda seed: [(torch.ones(4, 2), torch.zeros(4, 1))] * 9,
        ...     loss_fn=nn.functional.mse_loss,
        ...     make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        ...     num_steps=9,
        ...     batch_size=4,
        ... )
        >>> record = run_trial(recipe, (("width", 2),), Point(lr=0.1, seed=0))
        >>> record.steps, record.diverged, record.loss < record.initial_loss
        (9, False, True)
    """
    require_plain_execution(error=TrialError)
    place = torch.device(device)
    where = f"the run of {format_size(size)} at lr={point.lr}, seed={point.seed}"
    with user_errors(where), _seeded(place, point.seed):
        model = recipe.make_model(**dict(size)).to(place)
        optimizer = recipe.make_optimizer(model, point.lr, **dict(size))
        batches = iter(recipe.batches(point.seed))
        losses, diverged = _train(recipe, model.train(), optimizer, batches)
        loss = inf if diverged else _objective(recipe, model, losses)
    return TrialRecord(
        size=size,
        point=point,
        loss=loss,
        losses=tuple(losses),
        diverged=diverged,
        steps=len(losses) - diverged,
        initial_loss=losses[0],
        device=str(device),
        versions=running_versions(),
    )


def running_versions() -> tuple[tuple[str, str], ...]:
    """Packages that a run's numbers depend on, and their versions."""
    return (
        ("numpy", np.__version__),
        ("python", platform.python_version()),
        ("torch", str(torch.__version__)),
    )


def _train(
    recipe: Recipe, model: nn.Module, optimizer: Optimizer, batches: Iterator[Any]
) -> tuple[list[float], bool]:
    """The losses, and whether the last of them says that the run diverged."""
    make = recipe.schedule
    schedule = None if make is None else make(optimizer, recipe.num_steps)
    losses: list[float] = []
    limit = inf
    while len(losses) < recipe.num_steps:
        optimizer.zero_grad()
        loss = _loss(recipe, model, _next_batch(batches, len(losses), recipe.num_steps))
        value = loss.item()
        losses.append(value)
        if len(losses) == 1:
            limit = DIVERGENCE_FACTOR * abs(value) or inf
        if not isfinite(value) or value > limit:
            return losses, True
        torch.autograd.backward(loss)
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return losses, False


def _next_batch(batches: Iterator[Any], done: int, num_steps: int) -> Any:
    for batch in batches:
        return batch
    raise TrialError(
        f"{done} batches for num_steps={num_steps}",
        "a batch for every step",
        "give more batches or take fewer steps",
    )


def _loss(recipe: Recipe, model: nn.Module, batch: Any) -> Tensor:
    """The loss of one batch, before the step."""
    examples = read_batch(batch)
    device = next(model.parameters()).device
    args, kwargs, targets = map_tensors(
        (examples.args, examples.kwargs, examples.targets), lambda tensor: tensor.to(device)
    )
    output = model(*args, **kwargs)
    loss: Tensor = own_loss(output) if recipe.loss_fn is None else recipe.loss_fn(output, targets)
    return loss


def _objective(recipe: Recipe, model: nn.Module, losses: Sequence[float]) -> float:
    """The loss of a run that did not diverge."""
    if recipe.objective == "mean":
        return sum(losses) / len(losses)
    if recipe.objective == "final":
        window = ceil(FINAL_FRACTION * recipe.num_steps)
        return sum(losses[-window:]) / window
    assert recipe.evaluate is not None, "a recipe with this objective has `evaluate`"
    with torch.no_grad():
        return float(recipe.evaluate(model.eval()))


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Global random numbers from this seed inside, as they were afterwards, as are switches.

    What lies around the caller (autocast, `no_grad`) does not reach a run, as it would not in
    another process. Runs in threads of one process wait for each other.
    """
    is_cpu = device.type == "cpu"
    accelerator = None if is_cpu else device.type
    with (
        random_numbers_kept(accelerator),
        global_state_kept(),
        ambient_modes_left(),
        torch.enable_grad(),
    ):
        # torch.manual_seed would reseed accelerators too
        (torch.default_generator if is_cpu else torch).manual_seed(seed)
        yield
