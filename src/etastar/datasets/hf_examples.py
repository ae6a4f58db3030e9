"""Rows of a Hugging Face data set turned into tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from etastar.errors import ModelSpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from etastar.datasets.hf_columns import ImageColumns

__all__ = ["image_tensors", "joined_text"]

_GREY_MODES = ("1", "L")


def image_tensors(
    rows: Iterable[Mapping[str, Any]], columns: ImageColumns, *, size: int | None
) -> tuple[Tensor, Tensor]:
    """Images and labels; grey when all images are, else in three colours.

    Args:
        rows: Examples with PIL images.
        columns: Where image and label are.
        size: Height and width to resize to; None keeps the size, which must then be one for all.

    Returns:
        Images (examples, channels, height, width), 0 to 1, and labels (examples,).

    Raises:
        ModelSpecError: There is no example, the sizes differ, or a label is not a class number.
    """
    arrays: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    labels: list[int] = []
    grey = True
    for row in rows:
        image = row[columns.image]
        grey = grey and image.mode in _GREY_MODES
        if size is not None:
            image = image.convert("RGB").resize((size, size))
        arrays.append(np.asarray(image.convert("RGB"), dtype=np.uint8))
        labels.append(_class_number(row[columns.label], columns.label))
    _require_one_shape({array.shape for array in arrays})
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    if grey:
        images = images[:, :1]
    return images.float() / 255, torch.tensor(labels)


def _class_number(label: object, column: str) -> int:
    if not isinstance(label, int) or label < 0:
        raise ModelSpecError(
            f"label {label!r} in the column {column!r}",
            "a class number, 0 or more",
            "name another label_column, or a test_split whose labels are public",
        )
    return label


def _require_one_shape(shapes: set[tuple[int, ...]]) -> None:
    if len(shapes) != 1:
        raise ModelSpecError(
            f"images of the shapes {sorted(shapes)[:3]}" if shapes else "no images",
            "images of one shape, at least one",
            "give size, to which they are resized" if shapes else "ask for more examples",
        )


def joined_text(rows: Iterable[Mapping[str, Any]], column: str, *, num_bytes: int) -> bytes:
    r"""The texts as UTF-8, each ended by a newline, cut at a number of bytes.

    Args:
        rows: Examples; no more are read than are needed.
        column: Where the text is.
        num_bytes: Most bytes to take.

    Returns:
        At most `num_bytes` bytes.

    Example:
        >>> joined_text([{"text": "ab"}, {"text": "cd"}], "text", num_bytes=5)
        b'ab\ncd'
    """
    text = bytearray()
    for row in rows:
        text += str(row[column]).encode() + b"\n"
        if len(text) >= num_bytes:
            break
    return bytes(text[:num_bytes])
