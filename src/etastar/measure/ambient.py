"""Modes of the process that would change what is measured, switched off for its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from etastar.errors import EtastarError, MeasureError
from etastar.graph.isolation import (
    ambient_modes_left,
    global_state_kept,
    require_plain_execution,
)

__all__ = ["is_low_precision", "own_device", "plain_modes"]


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
    with global_state_kept(), ambient_modes_left(), torch.enable_grad(), _exact_products():
        if is_low_precision(torch.get_default_dtype()):
            torch.set_default_dtype(torch.float32)
        yield


@contextmanager
def _exact_products() -> Iterator[None]:
    """No TF32 and no bfloat16 within products and convolutions of float32."""
    found: Any = torch.backends
    parts = [
        *(found.cuda.matmul, found.cudnn.conv, found.cudnn.rnn),
        *(found.mkldnn.matmul, found.mkldnn.conv, found.mkldnn.rnn),
    ]
    before = [part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


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
