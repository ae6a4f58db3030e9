"""Text of the command line to values: `k=v` settings, and tensors from `SHAPE[:DTYPE]`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from etastar.errors import ModelSpecError, foreign_errors_as
from etastar.sources.base import GivenInputs

__all__ = ["example_tensor", "parse_inputs", "parse_settings", "split_settings"]

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_SHAPE = re.compile(r"^(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:[,x]\d+)*)(?::(?P<dtype>\w+))?$")

_DTYPES = (
    "float32 float64 float16 bfloat16 complex64 complex128 bool uint8 int8 int16 int32 int64 "
    "float double half long int"  # as PyTorch also calls them
).split()


def _value(text: str) -> Any:
    """A Python literal where it is one, else the text itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def split_settings(text: str) -> list[str]:
    """Split at commas, but not within brackets.

    Args:
        text: Settings as "k=v,k=v".

    Returns:
        The single settings.

    Example:
        >>> split_settings("depth=3,hidden_sizes=[8,16]")
        ['depth=3', 'hidden_sizes=[8,16]']
    """
    parts, level = [""], 0
    for character in text:
        level += (character in "[({") - (character in "])}")
        if character == "," and level == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Read settings `k=v`, each value a Python literal or a word.

    Args:
        texts: The settings, each "k=v".

    Returns:
        Name to value.

    Raises:
        ModelSpecError: A setting without "=", without a name, or given twice.

    Example:
        >>> parse_settings(["depth=3", "norm=batch", "affine=false"])
        {'depth': 3, 'norm': 'batch', 'affine': False}
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name.strip().isidentifier()):
            raise ModelSpecError(f"setting {text!r}", "NAME=VALUE", "write for example depth=12")
        if name.strip() in settings:
            raise ModelSpecError(
                f"setting {name.strip()!r} twice", "each setting once", "leave one of them out"
            )
        settings[name.strip()] = _value(value.strip())
    return settings


def example_tensor(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """An example input: zeros of an integer dtype, fixed pseudo-random numbers otherwise.

    Args:
        shape: Its shape.
        dtype: Its dtype.

    Returns:
        The tensor; the global random generator is not used.

    Example:
        >>> example_tensor((2, 3), torch.int64).sum().item()
        0
    """
    if not (dtype.is_floating_point or dtype.is_complex):
        return torch.zeros(*shape, dtype=dtype)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def parse_inputs(texts: Iterable[str]) -> GivenInputs | None:
    """Read example inputs, each `[NAME=]SHAPE[:DTYPE]`.

    Args:
        texts: The inputs; with a name they are passed by keyword.

    Returns:
        Positional and keyword inputs; None where there are none.

    Raises:
        ModelSpecError: Not of that form, or an unknown dtype.

    Example:
        >>> args, kwargs = parse_inputs(["2,3,8,8", "mask=2,8:int64"])
        >>> args[0].shape, kwargs["mask"].dtype
        (torch.Size([2, 3, 8, 8]), torch.int64)
    """
    args: list[torch.Tensor] = []
    kwargs: dict[str, torch.Tensor] = {}
    for text in texts:
        match = _SHAPE.match(text)
        dtype = (match and match["dtype"]) or "float32"
        if match is None or dtype not in _DTYPES:
            raise ModelSpecError(
                f"input {text!r}",
                f"[NAME=]SHAPE[:DTYPE], with a dtype out of {', '.join(_DTYPES)}",
                "write for example 2,3,32,32 or input_ids=1,16:int64",
            )
        if match["name"] in kwargs:
            raise ModelSpecError(
                f"input {match['name']!r} twice", "each input once", "leave one of them out"
            )
        with foreign_errors_as(
            ModelSpecError, f"input {text!r}", "a shape that fits in memory", "make it smaller"
        ):
            shape = [int(n) for n in re.split("[,x]", match["shape"])]
            tensor = example_tensor(shape, getattr(torch, dtype))
        if match["name"]:
            kwargs[match["name"]] = tensor
        else:
            args.append(tensor)
    return (tuple(args), kwargs) if args or kwargs else None
