"""Data sets by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from etastar.datasets.digits import load_digits
from etastar.datasets.fashion_mnist import load_fashion_mnist
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


def load(name: str, **kwargs: Any) -> Dataset:
    """The data set of that name.

    Args:
        name: A key of `DATASETS`.
        **kwargs: Options of its loader.

    Returns:
        Training and test examples as tensors.

    Raises:
        ModelSpecError: The name, an option or a value is not accepted, or the data is not there.

    Example:
        >>> load("digits").task
        'classification'
    """
    loader = DATASETS.get(name)
    if loader is None:
        raise ModelSpecError(
            f"data set {name!r}", "one of: " + ", ".join(DATASETS), "choose a listed one"
        )
    return _call(name, loader, kwargs)


def _call(name: str, loader: Callable[..., Dataset], options: dict[str, Any]) -> Dataset:
    accepted = [option for option in inspect.signature(loader).parameters if option != "name"]
    unknown = [option for option in options if option not in accepted]
    if unknown:
        raise ModelSpecError(
            f"{name} with {', '.join(unknown)}",
            "options out of: " + ", ".join(accepted),
            "leave out or rename what is not listed",
        )
    return loader(**options)
