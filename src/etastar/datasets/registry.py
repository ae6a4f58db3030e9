"""Data sets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from etastar.datasets.dataset import Dataset
from etastar.datasets.hugging_face import HuggingFaceOptions, load_hf
from etastar.datasets.included import load_digits, load_stdlib_text
from etastar.errors import ModelSpecError, foreign_errors_as
from etastar.typed import require_type

__all__ = ["DATASETS", "load"]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": load_digits,
    "stdlib-text": load_stdlib_text,
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
    loader: Callable[..., Dataset | HuggingFaceOptions]
    if name.startswith(_HF_PREFIX):
        loader = HuggingFaceOptions
    elif name in DATASETS:
        loader = DATASETS[name]
    else:
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
        found = loader(**kwargs)
        if isinstance(found, HuggingFaceOptions):
            return load_hf(name.removeprefix(_HF_PREFIX), found)
    return found


def _require_options(name: str, loader: Callable[..., Any], options: dict[str, Any]) -> None:
    accepted = inspect.signature(loader).parameters
    if unknown := [option for option in options if option not in accepted]:
        raise ModelSpecError(
            f"{name} with {', '.join(unknown)}",
            "options out of: " + ", ".join(accepted),
            "leave out or rename what is not listed",
        )
    types = get_type_hints(loader)
    for option, value in options.items():
        require_type(option, value, types[option])
