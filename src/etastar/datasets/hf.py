"""Any image or text set that the package `datasets` of Hugging Face can load."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from etastar.datasets.dataset import Dataset
from etastar.datasets.hf_columns import find_image_columns, find_text_column, holds_images
from etastar.datasets.hf_examples import image_tensors, joined_text
from etastar.datasets.scaling import standardize_images
from etastar.datasets.windows import NUM_BYTES, byte_windows, split_windows
from etastar.errors import MissingExtraError, ModelSpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["load_hf"]

_TEST_SPLITS = ("test", "validation", "valid", "val")

_TEST_EVERY = 10

_SHUFFLE_BUFFER = 10_000


def load_hf(
    name: str,
    *,
    config: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    text_column: str | None = None,
    size: int | None = None,
    max_train: int | None = None,
    max_test: int | None = None,
    context: int = 32,
    num_bytes: int = 1_000_000,
    streaming: bool = False,
    seed: int = 0,
) -> Dataset:
    """An image set (classification) or a text set (next-byte prediction).

    A set with a column of images, or of which an image or label column is named, is an image set;
    any other, or one whose text column is named, a text set, of which labels are not used.

    Args:
        name: What `datasets.load_dataset` takes, or a folder that `save_to_disk` wrote.
        config: Configuration of the data set.
        train_split: Name of the training split.
        test_split: Name of the test split; by default the first there is of test, validation,
            valid and val, and without any, every tenth training example.
        image_column: Where there are several.
        label_column: Where there are several (as the fine and coarse labels of CIFAR-100).
        text_column: Where there are several.
        size: Height and width in pixels that images are resized to.
        max_train: Most training examples; they are then drawn at random.
        max_test: Most test examples, likewise.
        context: Bytes in an input of a text set.
        num_bytes: Most bytes of training text; of test text a tenth of it.
        streaming: Whether examples are fetched one by one in place of the whole set.
        seed: Of the draws.

    Returns:
        Images (examples, channels, height, width), each channel with mean 0 and standard deviation
        1 over the training part; or tokens (windows, context).

    Raises:
        MissingExtraError: The package `datasets` is not installed.
        ModelSpecError: The set cannot be loaded, or a column or split is not there.
    """
    splits = _load_splits(name, config, streaming=streaming)
    train, test = _train_and_test(splits, train_split, test_split)
    features = train.features
    if features is None:
        raise ModelSpecError(
            f"{name!r}, whose columns have no known type",
            "typed columns",
            "load it without streaming",
        )
    train = _draw(train, max_train, seed)
    test = None if test is None else _draw(test, max_test, seed)
    wants_images = image_column is not None or label_column is not None or holds_images(features)
    if text_column is None and wants_images:
        columns = find_image_columns(features, image_column=image_column, label_column=label_column)
        found = image_tensors(train, columns, size=size)
        held_out = None if test is None else image_tensors(test, columns, size=size)
        return _image_dataset(name, columns.num_classes, found, held_out)
    column = find_text_column(features, text_column=text_column)
    train_text = joined_text(train, column, num_bytes=num_bytes)
    fewer = max(num_bytes // _TEST_EVERY, context + 1)
    test_text = None if test is None else joined_text(test, column, num_bytes=fewer)
    return _text_dataset(name, train_text, test_text, context=context)


def _load_splits(name: str, config: str | None, *, streaming: bool) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "hf") from error
    try:
        if (Path(name) / "dataset_dict.json").is_file():
            splits: Mapping[str, Any] = datasets.load_from_disk(name)
        else:
            splits = datasets.load_dataset(name, config, streaming=streaming)
    except (
        Exception
    ) as error:  # what a hub, a network and a parser can raise is not listed anywhere
        raise ModelSpecError(
            f"hf:{name} ({type(error).__name__}: {error})",
            "a data set that `datasets` can load",
            "check the name, the config and the network",
        ) from error
    return splits


def _train_and_test(
    splits: Mapping[str, Any], train_split: str, test_split: str | None
) -> tuple[Any, Any | None]:
    wanted = [train_split] if test_split is None else [train_split, test_split]
    missing = [split for split in wanted if split not in splits]
    if missing:
        raise ModelSpecError(
            f"split {', '.join(missing)}", "one of: " + ", ".join(splits), "choose listed splits"
        )
    usual = [split for split in _TEST_SPLITS if split in splits and split != train_split]
    chosen = test_split or next(iter(usual), None)
    return splits[train_split], None if chosen is None else splits[chosen]


def _draw(rows: Any, limit: int | None, seed: int) -> Any:
    """All rows in order, or so many drawn at random, because many sets are sorted by class."""
    if limit is None:
        return rows
    if hasattr(rows, "__len__"):
        return rows.shuffle(seed=seed).select(range(min(limit, len(rows))))
    return islice(rows.shuffle(seed=seed, buffer_size=_SHUFFLE_BUFFER), limit)


def _text_dataset(name: str, train: bytes, test: bytes | None, *, context: int) -> Dataset:
    windows = byte_windows(train, context=context)
    if test is None:
        parts = split_windows(*windows, test_every=_TEST_EVERY)
    else:
        parts = (*windows, *byte_windows(test, context=context))
    return Dataset(f"hf:{name}", "language modelling", NUM_BYTES, *parts)


def _image_dataset(
    name: str,
    num_classes: int | None,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor] | None,
) -> Dataset:
    (train_images, train_labels), (test_images, test_labels) = (
        _every_tenth(*train) if test is None else (train, test)
    )
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ModelSpecError(
            f"training images {tuple(train_images.shape[1:])}, "
            f"test images {tuple(test_images.shape[1:])}",
            "the same shape in both splits",
            "give size, or another test_split",
        )
    train_inputs, test_inputs = standardize_images(train_images, test_images)
    classes = num_classes or int(torch.cat([train_labels, test_labels]).max()) + 1
    return Dataset(
        f"hf:{name}",
        "classification",
        classes,
        train_inputs,
        train_labels,
        test_inputs,
        test_labels,
    )


def _every_tenth(
    images: Tensor, labels: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    is_test = torch.arange(len(images)) % _TEST_EVERY == _TEST_EVERY - 1
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])
