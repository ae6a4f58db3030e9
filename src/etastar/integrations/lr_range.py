"""A learning-rate range test that keeps the ratios between groups."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from etastar.errors import MeasureError
from etastar.formatting import Shown, number
from etastar.measure.batch import Batch, LossFn, read_batch
from etastar.typed import require_number

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

_DIVERGED = 4.0  # times the lowest loss, from where on the test stops


@dataclass(frozen=True)
class LrRange(Shown):
    """Losses while every group's rate grows by the same factor.

    Attributes:
        factors: What the optimizer's rates were multiplied by, step by step.
        losses: Loss before each of these steps.
    """

    factors: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def steepest(self) -> float:
        """The factor about which the loss falls most, in means over a tenth of the steps."""
        width = max(1, len(self.losses) // 10)
        means = [
            sum(self.losses[first : first + width]) / width
            for first in range(len(self.losses) - width + 1)
        ]
        falls = [a - b for a, b in zip(means, means[width:], strict=False)]
        return self.factors[falls.index(max(falls)) + width]

    def __rich__(self) -> str:
        lowest = min(range(len(self.losses)), key=lambda step: self.losses[step])
        return (
            f"factors {number(self.factors[0])} to {number(self.factors[-1])} on the optimizer's "
            f"rates: the loss falls fastest at x{number(self.steepest)}, and is lowest, "
            f"{number(self.losses[lowest])}, at x{number(self.factors[lowest])}"
        )


def lr_range_test(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    loss_fn: LossFn | None = None,
    *,
    factors: tuple[float, float] = (1e-3, 1e3),
    num_steps: int = 100,
) -> LrRange:
    """Train while all rates grow together, from far too small to far too large.

    lr(group, t) = lr(group) f_0 (f_1 / f_0)^(t / (T - 1)). It stops where the loss is four times
    its lowest, or not finite. Model, optimizer and random generator are as before afterwards.

    Args:
        model: The network.
        optimizer: Its optimizer, with a plan's groups or any others; for Muon a
            `CombinedOptimizer`.
        batches: At least T, each (inputs, targets) or a dict.
        loss_fn: `loss_fn(output, targets)`; None for a model that computes its own loss.
        factors: f_0 and f_1.
        num_steps: T.

    Returns:
        Factors and losses. A test of a few steps at the start of training is no tuning.

    Raises:
        MeasureError: Too few batches, a bad setting, or a loss that is never finite.

    Source:
        Smith, Cyclical learning rates for training neural networks, 2017 (arXiv:1506.01186).

    Example:
        >>> net = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> batch = (torch.ones(4, 2), torch.zeros(4, 1))
        >>> found = lr_range_test(net, sgd, [batch] * 9, torch.nn.functional.mse_loss, num_steps=9)
        >>> len(found.losses) > 5, sgd.param_groups[0]["lr"]
        (True, 0.1)
    """
    require_number("num_steps", num_steps, error=MeasureError, least=3, whole=True)
    low, high = (require_number("factors", one, error=MeasureError, above=0) for one in factors)
    own = [group["lr"] for group in optimizer.param_groups]
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    gradients = [parameter.grad for parameter in model.parameters()]
    tried: list[float] = []
    losses: list[float] = []
    with torch.random.fork_rng():
        try:
            for step, batch in enumerate(islice(batches, num_steps)):
                optimizer.zero_grad()
                loss = read_batch(batch).to(model).loss(model, loss_fn)
                if not math.isfinite(loss.item()) or loss > _DIVERGED * min(
                    losses, default=math.inf
                ):
                    break
                factor = low * (high / low) ** (step / (num_steps - 1))
                tried.append(factor)
                losses.append(loss.item())
                for group, lr in zip(optimizer.param_groups, own, strict=True):
                    group["lr"] = lr * factor
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            else:
                if len(losses) < num_steps:
                    raise _refused(f"{len(losses)} batches", f"{num_steps}, one for each step")
        finally:
            model.load_state_dict(before[0])
            optimizer.load_state_dict(before[1])
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient
    if len(losses) < 3:
        raise _refused(f"a loss that ends after {len(losses)} steps", "losses that are finite")
    return LrRange(tuple(tried), tuple(losses))


def _refused(received: str, expected: str) -> MeasureError:
    return MeasureError(received, expected, "give more batches, or start at a smaller factor")
