"""Data sets by name: digits, Python's own source, a random teacher, and those of Hugging Face."""

from __future__ import annotations

import inspect
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch

from etastar.datasets.dataset import NUM_BYTES, Dataset, byte_windows, hold_out_tenth, image_dataset
from etastar.datasets.hugging_face import HuggingFaceOptions, load_hf
from etastar.errors import ModelSpecError, foreign_errors_as
from etastar.typed import require_type

TeacherTask = Literal["classification", "regression"]

_DIGITS_TEST = 360
_TEACHER_WIDTH, _TEACHER_OUTPUTS = 64, 10


def load_digits() -> Dataset:
    """1,797 grey images of ten digits, a fifth of them the test part; nothing is downloaded.

    Returns:
        Images (examples, 1, 8, 8) with mean 0 and standard deviation 1 over the training part.

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
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:_DIGITS_TEST], order[_DIGITS_TEST:]
    return image_dataset("digits", 10, (images[train], labels[train]), (images[test], labels[test]))


def load_stdlib_text(*, context: int = 32, num_bytes: int = 1_000_000) -> Dataset:
    """Next-byte prediction on the running Python's standard library.

    The text, the library's modules by name, depends on the version of Python, and on nothing else.
    Every tenth window is kept for the test part.

    Args:
        context: Bytes in an input.
        num_bytes: How much text to use.

    Returns:
        Tokens (windows, context) and the same shifted by one.

    Raises:
        ModelSpecError: There is less text than asked for, or a size is no positive integer.

    Example:
        >>> data = load_stdlib_text(context=16, num_bytes=10_000)
        >>> data.train_inputs.shape, data.num_classes
        (torch.Size([530, 16]), 256)
    """
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"), key=lambda path: path.name)
    text = b"".join(path.read_bytes() for path in paths)
    if not 1 <= num_bytes <= len(text):
        raise ModelSpecError(
            f"num_bytes={num_bytes}, and {len(text)} bytes of Python's own source",
            "one byte or more, and no more than there are",
            "change num_bytes",
        )
    windows = byte_windows(text[:num_bytes], context=context)
    parts = hold_out_tenth(*windows)
    return Dataset("stdlib-text", "language modelling", NUM_BYTES, *parts)


def load_teacher(
    *,
    task: TeacherTask = "classification",
    num_train: int = 4096,
    num_test: int = 512,
    seed: int = 0,
) -> Dataset:
    """Normal inputs of 64 numbers, and the 10 that a random two-layer tanh network makes of them.

    y = V tanh(W x), with 64 hidden units, the variances of both weights 1 / fan_in, scaled to mean
    0 and standard deviation 1 of each output over the training part; the class is the largest.

    Args:
        task: "classification" (the largest output) or "regression" (all outputs).
        num_train: Training examples.
        num_test: Test examples.
        seed: Of inputs and teacher.

    Returns:
        Inputs (examples, 64); targets (examples,) or (examples, 10).

    Raises:
        ModelSpecError: A size is not positive.

    Example:
        >>> data = load_teacher(task="regression", num_train=100)
        >>> data.train_targets.shape
        torch.Size([100, 10])
    """
    if min(num_train, num_test) < 1:
        raise ModelSpecError(
            f"teacher with num_train={num_train}, num_test={num_test}",
            "one example or more in each part",
            "change the sizes",
        )
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num_train + num_test, _TEACHER_WIDTH, generator=generator)
    hidden_weight = torch.randn(_TEACHER_WIDTH, _TEACHER_WIDTH, generator=generator)
    output_weight = torch.randn(_TEACHER_WIDTH, _TEACHER_OUTPUTS, generator=generator)
    hidden = torch.tanh(inputs @ hidden_weight / _TEACHER_WIDTH**0.5)
    outputs = hidden @ output_weight / _TEACHER_WIDTH**0.5
    std, mean = torch.std_mean(outputs[:num_train], dim=0, correction=0)
    outputs = (outputs - mean) / std.masked_fill(std == 0, 1.0)
    targets = outputs.argmax(1) if task == "classification" else outputs
    train, test = slice(num_train), slice(num_train, None)
    parts = (inputs[train], targets[train], inputs[test], targets[test])
    return Dataset("teacher", task, _TEACHER_OUTPUTS, *parts)


DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": load_digits,
    "stdlib-text": load_stdlib_text,
    "teacher": load_teacher,
}

_HF_PREFIX = "hf:"


def load(name: str, **kwargs: Any) -> Dataset:
    """The data set of that name.

    Args:
        name: A key of `DATASETS`, or `hf:NAME` for whatever Hugging Face's `datasets` loads.
        **kwargs: Options of its loader.

    Returns:
        Training and test examples as tensors.

    Raises:
        MissingExtraError: `hf:NAME` without the package `datasets`.
        ModelSpecError: The name, an option or a value is not accepted, or the data is not there.

    Example:
        >>> load("digits").task
        'classification'
    """
    is_remote = name.startswith(_HF_PREFIX)
    loader: Callable[..., Any] | None = HuggingFaceOptions if is_remote else DATASETS.get(name)
    if loader is None:
        raise ModelSpecError(
            f"data set {name!r}",
            f"one of: {', '.join(DATASETS)}, {_HF_PREFIX}NAME",
            "choose a listed one",
        )
    _require_options(name, loader, kwargs)
    with foreign_errors_as(
        ModelSpecError,
        f"{name} with {kwargs}",
        "options with which the data set can be read",
        "change the option that it names",
    ):
        found: Any = loader(**kwargs)
        data: Dataset = load_hf(name.removeprefix(_HF_PREFIX), found) if is_remote else found
    return data


def _require_options(name: str, loader: Callable[..., Any], options: dict[str, Any]) -> None:
    accepted = inspect.signature(loader).parameters
    if unknown := [option for option in options if option not in accepted]:
        raise ModelSpecError(
            f"{name} with {', '.join(unknown)}",
            "options out of: " + (", ".join(accepted) or "none"),
            "leave out or rename what is not listed",
        )
    types = get_type_hints(loader)
    for option, value in options.items():
        require_type(option, value, types[option])
