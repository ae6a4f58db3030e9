"""Real steps of the optimizer before the one that is measured, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from etastar.errors import MeasureError
from etastar.measure.batch import Batch, Examples, LossFn, read_batch

if TYPE_CHECKING:
    from etastar.measure.subject import Subject

__all__ = ["Batches", "gradient_on", "state_kept", "trained"]

Batches: TypeAlias = "Callable[[int], Iterable[Batch]]"
"""From a seed to batches."""


def gradient_on(
    subject: Subject,
    examples: Examples,
    loss_fn: LossFn | None,
    *,
    forward: Callable[[], Any] | None = None,
) -> float:
    """Put the gradient of the loss into the parameters.

    Args:
        subject: Model and optimizer.
        examples: Of the batch.
        loss_fn: See `measure_update`.
        forward: Runs the model on the examples in its place.

    Returns:
        The loss.

    Raises:
        MeasureError: The loss depends on no parameter.
    """
    subject.optimizers.zero_grad()
    with torch.enable_grad():
        subject.seed_pass()
        loss = examples.loss(subject.model, loss_fn, forward=forward)
        if not loss.requires_grad:
            raise MeasureError(
                "a loss that depends on no parameter with requires_grad",
                "a loss that can be differentiated",
                "unfreeze the model, model.requires_grad_(True), or check loss_fn",
            )
        torch.autograd.backward(loss)
    return float(loss.detach())


@contextmanager
def state_kept(model: nn.Module) -> Iterator[None]:
    """Buffers, such as running means, as they were afterwards.

    Args:
        model: The model.

    Yields:
        Nothing.
    """
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in before:
                buffer.copy_(values)


def trained(
    subject: Subject,
    stream: Iterator[Batch],
    loss_fn: LossFn | None,
    *,
    num_steps: int,
    lr: float,
) -> None:
    """Take real steps.

    Args:
        subject: Model and optimizer, changed.
        stream: Batches; one is taken for each step.
        loss_fn: See `measure_update`.
        num_steps: Number of steps.
        lr: Learning rate, in the unit of the optimizers.

    Raises:
        MeasureError: The batches ended early.
    """
    subject.optimizers.set_rate(lr)
    for done in range(num_steps):
        batch = next(stream, None)
        if batch is None:
            raise MeasureError(
                f"{done} batches for after={num_steps}",
                "a batch for every step",
                "give more batches, or take fewer steps",
            )
        examples = read_batch(batch).to(subject.model)
        gradient_on(subject, examples, loss_fn)
        subject.optimizers.step()
