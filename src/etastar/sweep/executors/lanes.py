"""One run among those that are trained together, and its batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from etastar.sweep.executors.refusals import UnstackableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from etastar.sweep.space import Experiment, Point
    from etastar.sweep.trial import Prospect

__all__ = ["Lane", "Stream"]


@dataclass
class Lane:
    """One run among those that are trained together.

    Attributes:
        point: Learning rate and seed.
        model: Its own model; holds its parameters before training, and while they are views.
        optimizer: As `make_optimizer` made it; its settings are used, its `step` is not.
        losses: Training losses so far.
        diverged: Whether the last of them says so.
        prospect: Whether its mean loss can still be of use.
    """

    point: Point
    model: nn.Module
    optimizer: Optimizer
    prospect: Prospect
    losses: list[float] = field(default_factory=list)
    diverged: bool = False


class Stream:
    """The batches of one seed, drawn with the random numbers that a run of its own would have.

    Args:
        experiment: What a run is.
        seed: Of the run.
        state: Of the global random numbers, after the model and its optimizer were made.
    """

    def __init__(self, experiment: Experiment, seed: int, state: Tensor) -> None:
        self._batches = self._iterate(experiment, seed)
        self.state = state

    @staticmethod
    def _iterate(experiment: Experiment, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        budget = experiment.budget
        yield from experiment.batches(seed, budget.batch_size, budget.num_steps)

    def draw(self) -> tuple[Tensor, Tensor]:
        """The next batch.

        Returns:
            Inputs and targets.

        Raises:
            UnstackableError: There is none.
        """
        torch.set_rng_state(self.state)
        try:
            batch = next(self._batches, None)
        finally:
            self.state = torch.get_rng_state()
        if batch is None:
            raise UnstackableError("the batches end early")
        return batch
