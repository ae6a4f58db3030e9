"""Data sets that only experiments train on, beside those of the package."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from etastar.datasets import Dataset, load
from etastar.datasets.dataset import image_dataset
from etastar.errors import ModelSpecError

DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package `dataset-fashion-mnist` puts its four files."""

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> Tensor:
    """An array of bytes in the idx format of MNIST, compressed with gzip.

    The header is two zero bytes, the type, the number of dimensions, and each dimension as a
    big-endian 32-bit integer.

    Args:
        path: A file `*-ubyte.gz`.

    Returns:
        The array, uint8.

    Raises:
        ModelSpecError: The file is no such array, or its length is not what its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        zeros, kind, ndim = struct.unpack_from(">HBB", content)
        shape: Sequence[int] = struct.unpack_from(f">{ndim}I", content, 4)
    except (EOFError, gzip.BadGzipFile, struct.error) as error:
        raise _bad_file(path, str(error)) from error
    body = content[4 + 4 * ndim :]
    array = torch.frombuffer(bytearray(body), dtype=torch.uint8) if body else torch.empty(0)
    if (zeros, kind) != (0, _UNSIGNED_BYTE) or array.numel() != torch.Size(shape).numel():
        raise _bad_file(path, f"type {kind}, dimensions {tuple(shape)}, {len(body)} bytes")
    return array.reshape(tuple(shape))


def _bad_file(path: Path, found: str) -> ModelSpecError:
    return ModelSpecError(
        f"{path} ({found})", "unsigned bytes in idx format, gzipped", "install the data set again"
    )


def load_fashion_mnist(
    *,
    size: int = 28,
    num_train: int = 60_000,
    num_test: int = 10_000,
    folder: str = DEBIAN_FOLDER,
) -> Dataset:
    """70,000 grey images of ten kinds of clothes.

    Args:
        size: Height and width in pixels, a divisor of 28; 14 averages over 2 x 2 pixels.
        num_train: Training examples, the first ones of the file.
        num_test: Test examples, the first ones of the file.
        folder: Where the four files lie.

    Returns:
        Images (examples, 1, size, size) with mean 0 and standard deviation 1 over the training
        part.

    Raises:
        ModelSpecError: The files are not there or broken, or an option is out of range.

    Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747.
    """
    train, train_labels = _read_part(Path(folder), "train", num_train)
    test, test_labels = _read_part(Path(folder), "t10k", num_test)
    return image_dataset(
        "fashion-mnist",
        10,
        (_pooled(train, size), train_labels),
        (_pooled(test, size), test_labels),
    )


def _read_part(folder: Path, part: str, num_examples: int) -> tuple[Tensor, Tensor]:
    images_path = folder / f"{part}-images-idx3-ubyte.gz"
    labels_path = folder / f"{part}-labels-idx1-ubyte.gz"
    if not (images_path.is_file() and labels_path.is_file()):
        raise ModelSpecError(
            f"no {images_path.name} and {labels_path.name} in {folder}",
            "the files of Debian's package dataset-fashion-mnist",
            "apt-get install dataset-fashion-mnist, or name another folder",
        )
    images, labels = read_idx(images_path), read_idx(labels_path)
    if not 1 <= num_examples <= len(images):
        raise ModelSpecError(
            f"{num_examples} examples of the part {part!r}",
            f"from 1 to {len(images)}",
            "change num_train or num_test",
        )
    return images[:num_examples].float().unsqueeze(1), labels[:num_examples].long()


def _pooled(images: Tensor, size: int) -> Tensor:
    full = images.shape[-1]
    if size < 1 or full % size:
        raise ModelSpecError(f"size={size}", f"a divisor of {full}", "change size")
    return F.avg_pool2d(images, full // size)


def load_named(name: str, **options: Any) -> Dataset:
    """A data set of the studies, or of the package.

    Args:
        name: "fashion-mnist", or what `etastar.datasets.load` takes.
        **options: Of its loader.

    Returns:
        The data set.

    Raises:
        ModelSpecError: It cannot be loaded.

    Example:
        >>> load_named("teacher", num_train=8).train_inputs.shape
        torch.Size([8, 64])
    """
    return load_fashion_mnist(**options) if name == "fashion-mnist" else load(name, **options)
