"""What callers give, checked: batches, sizes; a model's loss on a batch; and modes of the process.

Modes that would change what is measured are switched off for its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from etastar.errors import CaptureError, EtastarError, MeasureError, foreign_errors_as
from etastar.graph.arguments import cloned, map_tensors
from etastar.graph.isolation import (
    ambient_modes_left,
    global_state_kept,
    quiet_switches,
    require_plain_execution,
)

Batch: TypeAlias = "tuple[Any, Any] | Mapping[str, Any]"
"""(inputs, targets), the inputs one argument, a tuple or a dict of several; or a dict of keyword
arguments, targets among them where the model computes its own loss."""

LossFn: TypeAlias = Callable[..., Tensor]
"""`loss_fn(output, targets)`; for a dict batch `loss_fn(output, batch)`."""

Sizes: TypeAlias = "Sequence[Mapping[str, int]]"
"""Settings of each network, [{"depth": 2, "width": 64}, {"depth": 4, "width": 64}]."""


def forward_pass() -> AbstractContextManager[None]:
    """A pass of the caller's model, recorded or not: what it raises becomes a `CaptureError`."""
    return foreign_errors_as(
        CaptureError,
        "a forward pass that failed",
        "a model that runs on the batch as it was given",
        "call model(inputs) yourself to see the error",
    )


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
        """The examples on the model's device, as ordinary tensors; low precision as float32."""
        device = next(model.parameters()).device

        def moved(tensor: Tensor) -> Tensor:
            dtype = torch.float32 if is_low_precision(tensor.dtype) else tensor.dtype
            placed = tensor.to(device, dtype)
            return placed.clone() if placed.is_inference() else placed

        args, kwargs, targets = map_tensors((self.args, self.kwargs, self.targets), moved)
        return Examples(args, kwargs, targets)

    def loss(self, model: nn.Module, loss_fn: LossFn | None) -> Tensor:
        """The loss of a model on these examples; without `loss_fn` the one that the model returned.

        Raises:
            CaptureError: The forward pass raised.
            MeasureError: `loss_fn` raised, gave no scalar, or there is none.
        """
        args, kwargs = map_tensors((self.args, self.kwargs), cloned)  # a model may write to them
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
    """The loss that a model itself returned; refused where there is none.

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
    """Tell inputs from targets; what is none of the forms of `Batch` is refused.

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


def read_sizes(sizes: Sizes) -> tuple[dict[str, int], ...]:
    """The sizes that are different, in the order given; refused are fewer than two.

    Example:
        >>> read_sizes([{"depth": 2}, {"depth": 4}, {"depth": 2}])
        ({'depth': 2}, {'depth': 4})
    """
    found: list[dict[str, int]] = []
    if isinstance(sizes, Sequence) and all(isinstance(size, Mapping) for size in sizes):
        for size in map(dict, sizes):
            if size not in found:
                found.append(size)
    values = [value for size in found for value in size.values()]
    is_known = all(type(value) is int and value > 0 for value in values)
    if len(found) < 2 or not is_known or len({frozenset(size) for size in found}) > 1:
        raise MeasureError(
            f"sizes={sizes!r}",
            "two different sizes or more, each with positive values of the same settings",
            'give for example sizes=[{"width": 32}, {"width": 64}, {"width": 128}]',
        )
    return tuple(found)


def varied_alone(sizes: Sequence[Mapping[str, int]]) -> dict[str, tuple[dict[str, int], ...]]:
    """For each setting the sizes, ascending, in which all others are as in the first size.

    Settings that never vary alone are left out; that there is no other is refused.

    Example:
        >>> list(varied_alone([{"depth": 2, "width": 8}, {"depth": 4, "width": 8}]))
        ['depth']
    """
    first = sizes[0]
    lines = {}
    for name in first:
        line = [dict(s) for s in sizes if all(s[k] == v for k, v in first.items() if k != name)]
        if len(line) > 1:
            lines[name] = tuple(sorted(line, key=lambda size: size[name]))
    if not lines:
        raise MeasureError(
            f"sizes={[dict(size) for size in sizes]}",
            "two or more that differ from the first in one setting alone",
            "add sizes between which a single setting changes",
        )
    return lines


def is_low_precision(dtype: torch.dtype) -> bool:
    """Whether a floating dtype has too few digits for the small steps of a measurement."""
    return dtype.is_floating_point and dtype.itemsize < torch.float32.itemsize


@contextmanager
def plain_modes(*, error: type[EtastarError] = MeasureError) -> Iterator[None]:
    """Random numbers and switches are put back; within, nothing rounds and autograd records.

    Autocast is off on every device, products of float32 are computed in float32, and a low default
    dtype is float32 (float64 stays). Under bfloat16 autocast the changes of the pre-activations are
    lost in rounding, and the rate comes out several times too small. Within a tracer of PyTorch
    `error` is raised.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), plain_modes():
        ...     torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
        (False, True)
    """
    require_plain_execution(error=error)
    found: Any = torch.backends
    parts = [  # float32 without TF32 and bfloat16 within products, convolutions, recurrent layers
        *(found.cuda.matmul, found.cudnn.conv, found.cudnn.rnn),
        *(found.mkldnn.matmul, found.mkldnn.conv, found.mkldnn.rnn),
    ]
    with global_state_kept(), ambient_modes_left(), torch.enable_grad(), ExitStack() as stack:
        for part in parts:
            stack.callback(setattr, part, "fp32_precision", part.fp32_precision)
            part.fp32_precision = "ieee"
        if is_low_precision(torch.get_default_dtype()):
            torch.set_default_dtype(torch.float32)
        yield


@contextmanager
def own_device(model: nn.Module) -> Iterator[None]:
    """Tensors that a forward pass makes without saying where are made where the model is.

    Example:
        >>> with torch.device("meta"), own_device(nn.Linear(1, 1, device="cpu")):
        ...     torch.zeros(1).device
        device(type='cpu')
    """
    device = next(model.parameters()).device
    if torch.get_default_device().type == device.type:
        yield
        return
    with torch.device(device):
        yield
