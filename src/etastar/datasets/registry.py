"""Data sets by name."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from etastar.datasets.digits import load_digits
from etastar.datasets.fashion_mnist import load_fashion_mnist
from etastar.datasets.hf import load_hf
from etastar.datasets.stdlib_text import load_stdlib_text
from etastar.datasets.teacher import load_teacher
from etastar.errors import ModelSpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from etastar.datasets.dataset import Dataset

__all__ = ["DATASETS", "load"]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": load_digits,
    "fashion-mnist": load_fashion_mnist,
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
    loader = _loader(name)
    accepted = inspect.signature(loader).parameters
    unknown = [option for option in kwargs if option not in accepted]
    if unknown:
        raise ModelSpecError(
            f"{name} with {', '.join(unknown)}",
            "options out of: " + ", ".join(accepted),
            "leave out or rename what is not listed",
        )
    return loader(**kwargs)


def _loader(name: str) -> Callable[..., Dataset]:
    if name.startswith(_HF_PREFIX):
        return partial(load_hf, name.removeprefix(_HF_PREFIX))
    if name not in DATASETS:
        raise ModelSpecError(
            f"data set {name!r}",
            f"one of: {', '.join(DATASETS)}, {_HF_PREFIX}NAME",
            "choose a listed one",
        )
    return DATASETS[name]
