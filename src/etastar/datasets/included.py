"""What needs no download: scikit-learn's digits, the source of Python's standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from etastar.datasets.dataset import Dataset, image_dataset
from etastar.errors import ModelSpecError

__all__ = ["NUM_BYTES", "byte_windows", "load_digits", "load_stdlib_text", "split_every"]

NUM_BYTES = 256


def load_digits(*, num_test: int = 360, seed: int = 0) -> Dataset:
    """1,797 grey images of ten digits; nothing is downloaded.

    Args:
        num_test: Examples kept for the test part (a fifth by default).
        seed: Of the split; not of the batches.

    Returns:
        Images (examples, 1, 8, 8) with mean 0 and standard deviation 1 over the training part.

    Raises:
        ModelSpecError: The test part would be empty or leave nothing to train on.

    Example:
        >>> data = load_digits()
        >>> data.train_inputs.shape, data.num_classes
        (torch.Size([1437, 1, 8, 8]), 10)

    Source: UCI's Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998.
    """
    from sklearn.datasets import load_digits as read_digits

    raw = read_digits()
    images = torch.from_numpy(raw.images).float().unsqueeze(1)
    labels = torch.from_numpy(raw.target).long()
    if not 1 <= num_test < len(images):
        raise ModelSpecError(
            f"num_test={num_test}", f"from 1 to {len(images) - 1}", "change num_test"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    test, train = order[:num_test], order[num_test:]
    return image_dataset("digits", 10, (images[train], labels[train]), (images[test], labels[test]))


def byte_windows(text: bytes, *, context: int) -> tuple[Tensor, Tensor]:
    """Windows that do not overlap, and the same shifted by one byte: (windows, context) integers.

    What does not fill a window is left out; a text that fills none is refused.

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


def split_every(
    inputs: Tensor, targets: Tensor, *, test_every: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every so many-th example as test part, so that both parts come from the whole set.

    Returns:
        Training inputs and targets, test inputs and targets.

    Example:
        >>> windows = torch.arange(4)[:, None]
        >>> [part.flatten().tolist() for part in split_every(windows, windows, test_every=2)]
        [[0, 2], [0, 2], [1, 3], [1, 3]]
    """
    is_test = torch.arange(len(inputs)) % test_every == test_every - 1
    return inputs[~is_test], targets[~is_test], inputs[is_test], targets[is_test]


def _read_source(folder: Path, *, num_bytes: int) -> bytes:
    """The first bytes of a folder's modules, by name; no file is opened that is not needed."""
    parts: list[bytes] = []
    missing = num_bytes
    for path in sorted(folder.glob("*.py"), key=lambda path: path.name):
        if missing <= 0:
            break
        parts.append(path.read_bytes()[:missing])
        missing -= len(parts[-1])
    return b"".join(parts)


def load_stdlib_text(
    *, context: int = 32, num_bytes: int = 1_000_000, folder: str | None = None
) -> Dataset:
    """Next-byte prediction on the running Python's standard library.

    The text depends on the version of Python, and on nothing else. Every tenth window is kept for
    the test part.

    Args:
        context: Bytes in an input.
        num_bytes: How much text to use.
        folder: Another folder of Python files in place of the standard library.

    Returns:
        Tokens (windows, context) and the same shifted by one.

    Raises:
        ModelSpecError: The folder holds less text than asked for, or a size is no positive integer.

    Example:
        >>> data = load_stdlib_text(context=16, num_bytes=10_000)
        >>> data.train_inputs.shape, data.num_classes
        (torch.Size([530, 16]), 256)
    """
    source = Path(folder or sysconfig.get_path("stdlib"))
    text = _read_source(source, num_bytes=num_bytes)
    if len(text) < num_bytes or num_bytes < 1:
        raise ModelSpecError(
            f"num_bytes={num_bytes}, and {len(text)} bytes of Python source in {source}",
            "one byte or more, and no more than there are",
            "lower num_bytes, or name another folder",
        )
    parts = split_every(*byte_windows(text, context=context), test_every=10)
    return Dataset("stdlib-text", "language modelling", NUM_BYTES, *parts)
