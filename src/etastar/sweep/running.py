"""One point of a sweep, from experiment to record."""

from __future__ import annotations

import platform
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import torch

from etastar.errors import EtastarError, TrialError
from etastar.sweep.record import TrialRecord
from etastar.sweep.space import format_size
from etastar.sweep.trial import run_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from etastar.sweep.space import Experiment, Objective, Point, Size
    from etastar.sweep.trial import TrialResult

__all__ = ["objective_loss", "run_point", "running_versions", "trial_error", "trial_record"]


def run_point(
    experiment: Experiment,
    size: Size,
    point: Point,
    on_step: Callable[[int], None] | None = None,
    *,
    device: torch.device | str = "cpu",
) -> TrialRecord:
    """Train one size at one learning rate from one seed, in this process.

    Args:
        experiment: What a run is.
        size: Size of the network.
        point: Learning rate and seed.
        on_step: Called after each step with 1, the number of steps done since the last call.
        device: Where to train.

    Returns:
        The record, with the device and the versions of what ran it.

    Raises:
        TrialError: The factory, the data, the loss or the optimizer raised.

    Example:
        >>> from torch import nn
        >>> from etastar.sweep.space import Budget, Experiment, Point
        >>> experiment = Experiment(
        ...     factory=lambda width: nn.Linear(width, 1),
        ...     batches=lambda seed, size, steps: [(torch.ones(size, 2), torch.zeros(size, 1))] * 9,
        ...     loss_fn=nn.functional.mse_loss,
        ...     make_optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        ...     budget=Budget(num_steps=9, batch_size=4),
        ... )
        >>> record = run_point(experiment, (("width", 2),), Point(lr=0.1, seed=0))
        >>> record.steps, record.diverged, record.loss < record.initial_loss
        (9, False, True)
    """
    budget = experiment.budget
    try:
        result = run_trial(
            lambda: experiment.factory(**dict(size)),
            _batches(experiment, point.seed),
            experiment.loss_fn,
            lambda model: experiment.make_optimizer(model, point.lr),
            num_steps=budget.num_steps,
            seed=point.seed,
            device=device,
            divergence_factor=budget.divergence_factor,
            final_fraction=budget.final_fraction,
            ceiling=point.ceiling if budget.objective == "mean" else inf,
            evaluate=experiment.evaluate if budget.objective == "validation" else None,
            on_step=None if on_step is None else lambda done, loss: on_step(1),
        )
    except EtastarError:
        raise
    except Exception as error:
        raise trial_error(error, size, point) from error
    return trial_record(experiment, size, point, result, device=device)


def trial_record(
    experiment: Experiment,
    size: Size,
    point: Point,
    result: TrialResult,
    *,
    device: torch.device | str = "cpu",
) -> TrialRecord:
    """The record of a finished run, with the versions of this process.

    Args:
        experiment: What a run is.
        size: Size of the network.
        point: Learning rate and seed.
        result: What the run came to.
        device: Where it was trained.

    Returns:
        The record.
    """
    return TrialRecord(
        size=size,
        point=point,
        loss=objective_loss(result, experiment.budget.objective),
        losses=result.losses,
        diverged=result.diverged,
        steps=result.steps_done,
        initial_loss=result.initial_loss,
        device=str(device),
        versions=running_versions(),
        stopped=result.stopped,
    )


def _batches(experiment: Experiment, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, made only when training asks: inside the run's own random numbers."""
    yield from experiment.batches(seed, experiment.budget.batch_size, experiment.budget.num_steps)


def objective_loss(result: TrialResult, objective: Objective) -> float:
    """The loss of a run by an objective; +inf for a diverged run.

    Args:
        result: A finished run.
        objective: "mean", "final" or "validation".

    Returns:
        The loss.

    Example:
        >>> from etastar.sweep.trial import TrialResult
        >>> result = TrialResult((3.0, 1.0), False, 2, mean_loss=2.0, final_loss=1.0)
        >>> objective_loss(result, "mean"), objective_loss(result, "final")
        (2.0, 1.0)
    """
    if result.diverged:
        return inf
    if objective == "mean":
        return result.mean_loss
    if objective == "final":
        return result.final_loss
    assert result.evaluation is not None, "an experiment with this objective has `evaluate`"
    return result.evaluation


def running_versions() -> tuple[tuple[str, str], ...]:
    """Packages that a run's numbers depend on, and their versions.

    Returns:
        Sorted (package, version) pairs.

    Example:
        >>> [package for package, _ in running_versions()]
        ['numpy', 'python', 'torch']
    """
    return (
        ("numpy", np.__version__),
        ("python", platform.python_version()),
        ("torch", str(torch.__version__)),
    )


def trial_error(error: BaseException, size: Size, point: Point) -> TrialError:
    """What a run's own exception becomes: a TrialError with its type and message.

    Args:
        error: What the factory, the data, the loss or the optimizer raised.
        size: Size of the network.
        point: Learning rate and seed.

    Returns:
        The error to raise.

    Example:
        >>> from etastar.sweep.space import Point
        >>> print(trial_error(KeyError("x"), (("depth", 3),), Point(lr=0.1, seed=0)).received)
        KeyError: 'x' in the run of depth=3 at lr=0.1, seed=0
    """
    run = f"{format_size(size)} at lr={point.lr}, seed={point.seed}"
    return TrialError(
        f"{type(error).__name__}: {error} in the run of {run}",
        "a factory, batches, a loss and an optimizer that do not raise",
        "mend what raised, then run the same sweep again; finished runs are kept",
    )
