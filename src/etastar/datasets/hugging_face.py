"""Any image or text set that the package `datasets` of Hugging Face can load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from etastar.datasets.dataset import NUM_BYTES, Dataset, byte_windows, image_dataset, split_every
from etastar.errors import MissingExtraError, ModelSpecError, foreign_errors_as

_TEST_SPLITS = ("test", "validation", "valid", "val")
_TEST_EVERY = 10
_SHUFFLE_BUFFER = 10_000
_GREY_MODES = ("1", "L")


@dataclass(frozen=True)
class HuggingFaceOptions:
    """How a data set of Hugging Face is read.

    Attributes:
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
    """

    config: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    text_column: str | None = None
    size: int | None = None
    max_train: int | None = None
    max_test: int | None = None
    context: int = 32
    num_bytes: int = 1_000_000
    streaming: bool = False
    seed: int = 0


def load_hf(name: str, options: HuggingFaceOptions) -> Dataset:
    """An image set (classification) or a text set (next-byte prediction).

    A set with a column of images, or of which an image or label column is named, is an image set;
    any other, or one whose text column is named, a text set, of which labels are not used. `name`
    is what `datasets.load_dataset` takes, or a folder that `save_to_disk` wrote.

    Returns:
        Images (examples, channels, height, width), each channel with mean 0 and standard deviation
        1 over the training part; or tokens (windows, context).

    Raises:
        MissingExtraError: The package `datasets` is not installed.
        ModelSpecError: The set cannot be loaded, or a column or split is not there.
    """
    splits = _load_splits(name, options)
    train, test = _train_and_test(splits, options.train_split, options.test_split)
    features = train.features
    if features is None:
        raise ModelSpecError(
            f"{name!r}, whose columns have no known type",
            "typed columns",
            "load it without streaming",
        )
    train = _draw(train, options.max_train, options.seed)
    test = None if test is None else _draw(test, options.max_test, options.seed)
    labelled = options.image_column is not None or options.label_column is not None
    if options.text_column is None and (labelled or _columns_of(features, "Image")):
        columns = _image_columns(features, options)
        found = _image_tensors(train, *columns, size=options.size)
        held_out = None if test is None else _image_tensors(test, *columns, size=options.size)
        num_classes = getattr(features[columns[1]], "num_classes", None)  # as the set states them
        return _image_dataset(name, num_classes, *_parts(found, held_out))
    column, context = _text_column(features, options.text_column), options.context
    windows = byte_windows(
        _joined_text(train, column, num_bytes=options.num_bytes), context=context
    )
    held_out = None
    if test is not None:
        fewer = max(options.num_bytes // _TEST_EVERY, context + 1)
        held_out = byte_windows(_joined_text(test, column, num_bytes=fewer), context=context)
    return Dataset(f"hf:{name}", "language modelling", NUM_BYTES, *_parts(windows, held_out))


def _load_splits(name: str, options: HuggingFaceOptions) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "hf") from error
    with foreign_errors_as(
        ModelSpecError,
        f"hf:{name}",
        "a data set that `datasets` can load",
        "check the name, the config and the network",
    ):
        if (Path(name) / "dataset_dict.json").is_file():
            splits: Mapping[str, Any] = datasets.load_from_disk(name)
        else:
            splits = datasets.load_dataset(name, options.config, streaming=options.streaming)
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


def _parts(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both parts; without a test split, every tenth training example is held out."""
    return split_every(*train, test_every=_TEST_EVERY) if test is None else (*train, *test)


def _image_dataset(
    name: str,
    num_classes: int | None,
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
) -> Dataset:
    shapes = [tuple(images.shape[1:]) for images in (train_images, test_images)]
    if shapes[0] != shapes[1]:
        raise ModelSpecError(
            f"training images {shapes[0]}, test images {shapes[1]}",
            "the same shape in both splits",
            "give size, or another test_split",
        )
    classes = num_classes or int(torch.cat([train_labels, test_labels]).max()) + 1
    train, test = (train_images, train_labels), (test_images, test_labels)
    return image_dataset(f"hf:{name}", classes, train, test)


def _image_columns(features: Mapping[str, Any], options: HuggingFaceOptions) -> tuple[str, str]:
    """The image and the label column; none is guessed where several would do."""
    labels = _columns_of(features, "ClassLabel") or [
        name for name in ("label", "labels") if name in features
    ]
    images = _columns_of(features, "Image")
    image = _chosen(features, "image_column", options.image_column, images)
    label = _chosen(features, "label_column", options.label_column, labels)
    return image, label


def _text_column(features: Mapping[str, Any], choice: str | None) -> str:
    """The only column of strings, or the one called "text"."""
    strings = [
        name
        for name, feature in features.items()
        if getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    return _chosen(features, "text_column", choice, ["text"] if "text" in strings else strings)


def _columns_of(features: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if type(feature).__name__ == kind]


def _chosen(
    features: Mapping[str, Any], option: str, choice: str | None, candidates: Iterable[str]
) -> str:
    found = list(candidates) if choice is None else [choice]
    if len(found) == 1 and found[0] in features:
        return found[0]
    raise ModelSpecError(
        f"{option}={choice!r} for a data set with columns {', '.join(features)}",
        f"one column out of: {', '.join(found if choice is None else features) or 'none fits'}",
        f"name it with {option}",
    )


def _image_tensors(
    rows: Iterable[Mapping[str, Any]], image_column: str, label_column: str, *, size: int | None
) -> tuple[Tensor, Tensor]:
    """Images 0 to 1, grey when all are, else in three colours; labels. `size` resizes them."""
    arrays: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    labels: list[int] = []
    grey = True
    for row in rows:
        image = row[image_column]
        grey = grey and image.mode in _GREY_MODES
        if size is not None:
            image = image.convert("RGB").resize((size, size))
        arrays.append(np.asarray(image.convert("RGB"), dtype=np.uint8))
        labels.append(_class_number(row[label_column], label_column))
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


def _joined_text(rows: Iterable[Mapping[str, Any]], column: str, *, num_bytes: int) -> bytes:
    """The texts as UTF-8, each ended by a newline, cut at a number of bytes.

    No more rows are read than are needed.
    """
    text = bytearray()
    for row in rows:
        text += str(row[column]).encode() + b"\n"
        if len(text) >= num_bytes:
            break
    return bytes(text[:num_bytes])
