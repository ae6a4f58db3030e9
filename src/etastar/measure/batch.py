"""Batches as the caller has them, and the loss of a model on one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from etastar.errors import MeasureError, foreign_errors_as
from etastar.graph.arguments import cloned, map_tensors
from etastar.graph.isolation import quiet_switches
from etastar.measure.ambient import is_low_precision
from etastar.measure.input_checks import forward_pass

__all__ = ["Batch", "Examples", "LossFn", "own_loss", "read_batch"]

Batch: TypeAlias = "tuple[Any, Any] | Mapping[str, Any]"
"""(inputs, targets), the inputs one argument, a tuple or a dict of several; or a dict of keyword
arguments, targets among them where the model computes its own loss."""

LossFn: TypeAlias = Callable[..., Tensor]
"""`loss_fn(output, targets)`; for a dict batch `loss_fn(output, batch)`."""


@dataclass(frozen=True)
class Examples:
    """A batch, read.

    Attributes:
        args: Positional arguments of the model.
        kwargs: Keyword arguments of the model.
        targets: Second argument of the loss function.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Any

    def to(self, model: nn.Module) -> Examples:
        """The examples on the model's device, as ordinary tensors; low precision as float32.

        Args:
            model: Whose first parameter says where.

        Returns:
            New examples.
        """
        device = next(model.parameters()).device

        def moved(tensor: Tensor) -> Tensor:
            dtype = torch.float32 if is_low_precision(tensor.dtype) else tensor.dtype
            placed = tensor.to(device, dtype)
            return placed.clone() if placed.is_inference() else placed

        args, kwargs, targets = map_tensors((self.args, self.kwargs, self.targets), moved)
        return Examples(args, kwargs, targets)

    def inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments, cloned: a model may write to what it is given."""
        args, kwargs = map_tensors((self.args, self.kwargs), cloned)
        return args, kwargs

    def loss(self, model: nn.Module, loss_fn: LossFn | None) -> Tensor:
        """The loss of a model on these examples.

        Args:
            model: The model.
            loss_fn: See `LossFn`; None for the loss that the model itself returned.

        Returns:
            A scalar.

        Raises:
            CaptureError: The forward pass raised.
            MeasureError: `loss_fn` raised, gave no scalar, or there is none.
        """
        args, kwargs = self.inputs()
        with forward_pass(), quiet_switches():
            output = model(*args, **kwargs)
        if loss_fn is None:
            loss = own_loss(output)
        else:
            with foreign_errors_as(
                MeasureError,
                "loss_fn",
                "loss_fn(output, targets), a loss of the model's output on the batch",
                "call loss_fn(model(inputs), targets) yourself to see the error",
            ):
                loss = loss_fn(output, self.targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise MeasureError(
                f"a loss of {shape}", "one number", "reduce the loss, by .mean() for example"
            )
        return loss.squeeze()


def own_loss(output: Any) -> Any:
    """The loss that a model itself returned.

    Args:
        output: Of the model.

    Returns:
        Its `loss`.

    Raises:
        MeasureError: There is none.

    Example:
        >>> own_loss({"loss": 0.5})
        0.5
    """
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None:
        raise MeasureError(
            f"no loss_fn, and a model that returned {type(output).__name__} without a loss",
            "loss_fn(output, targets), or a model that computes its loss from a dict batch",
            "give loss_fn, or put the labels into the batch",
        )
    return found


def read_batch(batch: Batch) -> Examples:
    """Tell inputs from targets.

    Args:
        batch: See `Batch`.

    Returns:
        The examples.

    Raises:
        MeasureError: It is none of the forms.

    Example:
        >>> read_batch((torch.zeros(2, 3), torch.zeros(2))).args[0].shape
        torch.Size([2, 3])
        >>> sorted(read_batch({"input_ids": torch.zeros(1, 4), "labels": None}).kwargs)
        ['input_ids', 'labels']
    """
    if _is_keywords(batch):
        fields = dict(batch)
        return Examples((), fields, fields)
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        inputs, targets = batch
        if _is_keywords(inputs):
            return Examples((), dict(inputs), targets)
        args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        return Examples(args, {}, targets)
    raise MeasureError(
        f"a batch given as {type(batch).__name__}",
        "(inputs, targets), or a dict of the model's keyword arguments",
        "put it into one of these forms",
    )


def _is_keywords(given: object) -> bool:
    return isinstance(given, Mapping) and all(isinstance(name, str) for name in given)
