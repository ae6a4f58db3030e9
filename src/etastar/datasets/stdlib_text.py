"""The source code of Python's own standard library, as bytes."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from etastar.datasets.dataset import Dataset
from etastar.datasets.windows import NUM_BYTES, byte_windows, split_windows
from etastar.errors import ModelSpecError

__all__ = ["load_stdlib_text", "read_source"]


def read_source(folder: Path, *, num_bytes: int) -> bytes:
    """The first bytes of the folder's modules, one after the other in the order of their names.

    Args:
        folder: Where `*.py` files lie; folders inside it are not entered.
        num_bytes: How many bytes to read; no file is opened that is not needed for them.

    Returns:
        At most `num_bytes` bytes.

    Example:
        >>> import sysconfig
        >>> len(read_source(Path(sysconfig.get_path("stdlib")), num_bytes=1000))
        1000
    """
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
    text = read_source(source, num_bytes=num_bytes)
    if len(text) < num_bytes or num_bytes < 1:
        raise ModelSpecError(
            f"num_bytes={num_bytes}, and {len(text)} bytes of Python source in {source}",
            "one byte or more, and no more than there are",
            "lower num_bytes, or name another folder",
        )
    parts = split_windows(*byte_windows(text, context=context), test_every=10)
    return Dataset("stdlib-text", "language modelling", NUM_BYTES, *parts)
