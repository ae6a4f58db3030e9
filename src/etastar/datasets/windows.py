"""Text cut into windows for next-byte prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from etastar.errors import ModelSpecError

__all__ = ["NUM_BYTES", "byte_windows", "split_windows"]

NUM_BYTES = 256


def byte_windows(text: bytes, *, context: int) -> tuple[Tensor, Tensor]:
    """Windows that do not overlap, and the same shifted by one byte.

    Args:
        text: At least context + 1 bytes; what does not fill a window is left out.
        context: Bytes in an input.

    Returns:
        Inputs and targets, integers of shape (windows, context).

    Raises:
        ModelSpecError: The context is not a positive integer, or the text is too short.

    Example:
        >>> inputs, targets = byte_windows(b"abcdef", context=2)
        >>> [bytes(row) for row in inputs.tolist()], [bytes(row) for row in targets.tolist()]
        ([b'ab', b'de'], [b'bc', b'ef'])
    """
    if not isinstance(context, int) or context < 1 or len(text) <= context:
        raise ModelSpecError(
            f"context={context!r} on a text of {len(text)} bytes",
            "a context of one byte or more, and a longer text",
            "change the context or give more text",
        )
    length = context + 1
    used = len(text) // length * length
    windows = torch.frombuffer(bytearray(text[:used]), dtype=torch.uint8)
    windows = windows.view(-1, length).long()
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def split_windows(
    inputs: Tensor, targets: Tensor, *, test_every: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every so many-th window as test part, so that both parts come from the whole text.

    Args:
        inputs: (windows, context).
        targets: (windows, context).
        test_every: 10 makes a tenth of the windows the test part.

    Returns:
        Training inputs and targets, test inputs and targets.

    Example:
        >>> windows = torch.arange(4)[:, None]
        >>> [part.flatten().tolist() for part in split_windows(windows, windows, test_every=2)]
        [[0, 2], [0, 2], [1, 3], [1, 3]]
    """
    is_test = torch.arange(len(inputs)) % test_every == test_every - 1
    return inputs[~is_test], targets[~is_test], inputs[is_test], targets[is_test]
