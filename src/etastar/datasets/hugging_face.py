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

from etastar.datasets.dataset import NUM_BYTES, Dataset, byte_windows, hold_out_tenth, image_dataset
from etastar.errors import MissingExtraError, ModelSpecError, foreign_errors_as

_TEST_SPLITS = ("test", "validation", "valid", "val")
_SHUFFLE_BUFFER = 10_000
_GREY_MODES = ("1", "L")
_STRINGS = ("string", "large_string")


@dataclass(frozen=True)
class HuggingFaceOptions:
    """How a data set of Hugging Face is read.

    Attributes:
        config: Configuration of the data set.
        test_split: Name of the test split; by default the first there is of test, validation,
            valid and val, and without any, every tenth training example.
        image_column: Where there are several.
        label_column: Where there are several (as the fine and coarse labels of CIFAR-100).
        text_column: Where there are several.
        size: Height and width in pixels that images are resized to.
        max_examples: Most examples of either part; they are then drawn at random.
        context: Bytes in an input of a text set.
        num_bytes: Most bytes of training text; of test text a tenth of it.
        streaming: Whether examples are fetched one by one in place of the whole set.
    """

    config: str | None = None
    test_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    text_column: str | None = None
    size: int | None = None
    max_examples: int | None = None
    context: int = 32
    num_bytes: int = 1_000_000
    streaming: bool = False


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
    splits = _train_and_test(_load_splits(name, options), options.test_split)
    features = splits[0].features
    if features is None:
        raise ModelSpecError(
            f"{name!r}, whose columns have no known type",
            "typed columns",
            "load it without streaming",
        )
    drawn = [_draw(rows, options.max_examples) for rows in splits]
    images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    is_labelled = options.image_column is not None or options.label_column is not None
    if options.text_column is None and (images or is_labelled):
        image = _column(features, options, "image_column", images)
        label = _column(features, options, "label_column", _labels(features))
        found = [_image_tensors(rows, image, label, size=options.size) for rows in drawn]
        parts = _both_parts(found)
        stated = getattr(features[label], "num_classes", None)
        num_classes = stated or int(torch.cat([parts[1], parts[3]]).max()) + 1
        return image_dataset(f"hf:{name}", num_classes, parts[:2], parts[2:])
    text, context = _column(features, options, "text_column", _texts(features)), options.context
    amounts = options.num_bytes, max(options.num_bytes // 10, context + 1)
    found = [
        byte_windows(_joined_text(rows, text, num_bytes=amount), context=context)
        for rows, amount in zip(drawn, amounts, strict=False)
    ]
    return Dataset(f"hf:{name}", "language modelling", NUM_BYTES, *_both_parts(found))


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


def _train_and_test(splits: Mapping[str, Any], test_split: str | None) -> list[Any]:
    """Rows of the training split, and of the test split where there is one."""
    wanted = ["train", *([] if test_split is None else [test_split])]
    missing = [split for split in wanted if split not in splits]
    if missing:
        raise ModelSpecError(
            f"split {', '.join(missing)}", "one of: " + ", ".join(splits), "choose listed splits"
        )
    usual = [split for split in _TEST_SPLITS if split in splits]
    return [splits[split] for split in (wanted + usual)[:2]]


def _draw(rows: Any, limit: int | None) -> Any:
    """All rows in order, or so many drawn at random, because many sets are sorted by class."""
    if limit is None:
        return rows
    if hasattr(rows, "__len__"):
        return rows.shuffle(seed=0).select(range(min(limit, len(rows))))
    return islice(rows.shuffle(seed=0, buffer_size=_SHUFFLE_BUFFER), limit)


def _both_parts(found: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both parts; without a test split, every tenth training example is held out."""
    train, *test = found
    return (*train, *test[0]) if test else hold_out_tenth(*train)


def _labels(features: Mapping[str, Any]) -> list[str]:
    stated = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    return stated or [name for name in ("label", "labels") if name in features]


def _texts(features: Mapping[str, Any]) -> list[str]:
    """The columns of strings, or the one called "text"."""
    strings = [n for n, kind in features.items() if getattr(kind, "dtype", None) in _STRINGS]
    return ["text"] if "text" in strings else strings


def _column(
    features: Mapping[str, Any], options: HuggingFaceOptions, option: str, candidates: list[str]
) -> str:
    """The column that an option names, else the only candidate; of several none is guessed."""
    choice = getattr(options, option)
    found = candidates if choice is None else [choice]
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
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        raise ModelSpecError(
            f"images of the shapes {sorted(shapes)[:3]}" if shapes else "no images",
            "images of one shape, at least one",
            "give size, to which they are resized" if shapes else "ask for more examples",
        )
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
