"""One training run, from a seed to its losses."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import TYPE_CHECKING

import torch

from etastar.errors import TrialError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

__all__ = ["Prospect", "TrialResult", "run_trial", "trial_result"]


@dataclass(frozen=True)
class TrialResult:
    """What one training run came to.

    Attributes:
        losses: Training loss of each step's batch, taken before the step; of a diverged run the
            last one is the loss that showed it.
        diverged: Whether the run was stopped because its loss was no longer reasonable.
        steps_done: Optimizer steps taken.
        mean_loss: Mean of `losses`; +inf for a diverged or stopped run.
        final_loss: Mean of the last part of `losses`; +inf for a diverged or stopped run.
        evaluation: What the caller's `evaluate` said of the trained model; None without one, and
            for a diverged run.
        stopped: Whether the run was ended before its time because its mean loss was certain to
            exceed the ceiling.
    """

    losses: tuple[float, ...]
    diverged: bool
    steps_done: int
    mean_loss: float
    final_loss: float
    evaluation: float | None = None
    stopped: bool = False

    @property
    def initial_loss(self) -> float:
        """Loss of the first batch, before anything was learned."""
        return self.losses[0]


class Prospect:
    """Tells, loss by loss, when the mean over a whole run is certain to exceed a ceiling.

    It is once sum(losses so far) > ceiling * num_steps, as long as no loss is negative: a run that
    loses nothing from then on would exceed it still.

    Args:
        ceiling: Mean loss that is too high; +inf for a run that nothing ends.
        num_steps: Steps of the whole run.

    Example:
        >>> prospect = Prospect(ceiling=1.0, num_steps=4)
        >>> [prospect.is_hopeless_after(loss) for loss in (2.0, 1.5, 1.0)]
        [False, False, True]
    """

    def __init__(self, ceiling: float, num_steps: int) -> None:
        self._limit = ceiling * num_steps
        self._sum, self._lowest = 0.0, inf

    def is_hopeless_after(self, loss: float) -> bool:
        """Take in a loss.

        Args:
            loss: Of the next step.

        Returns:
            Whether the mean is now certain to exceed the ceiling.
        """
        self._sum += loss
        self._lowest = min(self._lowest, loss)
        return self._lowest >= 0 and self._sum > self._limit


def run_trial(
    make_model: Callable[[], nn.Module],
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    make_optimizer: Callable[[nn.Module], Optimizer],
    *,
    num_steps: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    divergence_factor: float = 100.0,
    final_fraction: float = 0.1,
    ceiling: float = inf,
    evaluate: Callable[[nn.Module], float] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> TrialResult:
    """Train one model once.

    A run has diverged when a loss is not finite or is more than `divergence_factor` times the size
    of the first one (of a first loss of exactly 0, only the former). It then stops; its mean loss
    is +inf. The seed decides everything that is drawn from PyTorch's global random numbers, which
    are put back afterwards.

    Args:
        make_model: Makes the model, in the state from which to train.
        batches: At least `num_steps` pairs (inputs, targets); may be an iterator.
        loss_fn: `loss_fn(model(inputs), targets)` is the scalar loss.
        make_optimizer: Makes the optimizer of a model that is already on the device.
        num_steps: Optimizer steps.
        seed: Of the model's initialization, of dropout, and of batches that draw globally.
        device: Where to train.
        divergence_factor: More than 1.
        final_fraction: Share of the steps, at the end, over which `final_loss` is taken.
        ceiling: Mean loss beyond which the run is of no use: it ends, and is marked as stopped,
            once that is certain of it; see `Prospect`.
        evaluate: Called with the trained model in eval mode and without gradients.
        on_step: Called after each step with the number of steps done and the loss.

    Returns:
        The losses and what follows from them.

    Raises:
        TrialError: A setting is out of range, or the batches ended early.

    Example:
        >>> from torch import nn
        >>> result = run_trial(
        ...     lambda: nn.Linear(2, 1),
        ...     [(torch.ones(4, 2), torch.zeros(4, 1))] * 50,
        ...     nn.functional.mse_loss,
        ...     lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        ...     num_steps=50,
        ... )
        >>> result.steps_done, result.diverged, result.final_loss < 1e-6
        (50, False, True)
    """
    _require_settings(num_steps, divergence_factor, final_fraction)
    device = torch.device(device)
    with _seeded(device, seed):
        model = make_model().to(device)
        optimizer = make_optimizer(model)
        losses, diverged = _train(
            model.train(),
            batches,
            loss_fn,
            optimizer,
            device=device,
            num_steps=num_steps,
            divergence_factor=divergence_factor,
            prospect=Prospect(ceiling, num_steps),
            on_step=on_step,
        )
        ended_early = diverged or len(losses) < num_steps
        evaluation = None if evaluate is None or ended_early else _evaluate(model, evaluate)
    return trial_result(
        losses,
        diverged,
        num_steps=num_steps,
        final_fraction=final_fraction,
        evaluation=evaluation,
    )


def trial_result(
    losses: Sequence[float],
    diverged: bool,
    *,
    num_steps: int,
    final_fraction: float = 0.1,
    evaluation: float | None = None,
) -> TrialResult:
    """The result that follows from the losses of a run.

    Args:
        losses: Training loss of each step's batch; fewer than `num_steps` of a run that did not
            diverge are those of one that was stopped as hopeless.
        diverged: Whether the last of them says that the run diverged.
        num_steps: Steps of a whole run.
        final_fraction: Share of the steps, at the end, over which `final_loss` is taken.
        evaluation: What `evaluate` said of the trained model.

    Returns:
        The result.

    Example:
        >>> trial_result([3.0, 1.0], False, num_steps=2).mean_loss
        2.0
    """
    window = ceil(final_fraction * num_steps)
    stopped = not diverged and len(losses) < num_steps
    lost = diverged or stopped
    return TrialResult(
        losses=tuple(losses),
        diverged=diverged,
        steps_done=len(losses) - diverged,
        mean_loss=inf if lost else sum(losses) / len(losses),
        final_loss=inf if lost else sum(losses[-window:]) / window,
        evaluation=evaluation,
        stopped=stopped,
    )


def _train(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    optimizer: Optimizer,
    *,
    device: torch.device,
    num_steps: int,
    divergence_factor: float,
    prospect: Prospect,
    on_step: Callable[[int, float], None] | None,
) -> tuple[list[float], bool]:
    """The losses, and whether the last of them says that the run diverged."""
    losses: list[float] = []
    limit = inf
    stream = iter(batches)
    while len(losses) < num_steps:
        inputs, targets = _next_batch(stream, len(losses), num_steps)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        value = loss.item()
        losses.append(value)
        if len(losses) == 1:
            limit = divergence_factor * abs(value) or inf
        if not isfinite(value) or value > limit:
            return losses, True
        torch.autograd.backward(loss)
        optimizer.step()
        if on_step is not None:
            on_step(len(losses), value)
        if prospect.is_hopeless_after(value):
            break
    return losses, False


def _next_batch(
    stream: Iterable[tuple[Tensor, Tensor]], done: int, num_steps: int
) -> tuple[Tensor, Tensor]:
    for batch in stream:
        return batch
    raise TrialError(
        f"{done} batches for num_steps={num_steps}",
        "a batch for every step",
        "give more batches or take fewer steps",
    )


def _evaluate(model: nn.Module, evaluate: Callable[[nn.Module], float]) -> float:
    with torch.no_grad():
        return float(evaluate(model.eval()))


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """PyTorch's global random numbers from this seed inside, as they were afterwards."""
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed accelerators too, which nobody would put back
            torch.default_generator.manual_seed(seed)
            yield
        return
    devices = range(torch.get_device_module(device).device_count())
    with torch.random.fork_rng(devices=devices, device_type=device.type):
        torch.manual_seed(seed)
        yield


def _require_settings(num_steps: int, divergence_factor: float, final_fraction: float) -> None:
    if num_steps < 1 or not divergence_factor > 1 or not 0 < final_fraction <= 1:
        raise TrialError(
            f"num_steps={num_steps}, divergence_factor={divergence_factor}, "
            f"final_fraction={final_fraction}",
            "one step or more, a factor above 1, a fraction in (0, 1]",
            "change the setting that is out of range",
        )
