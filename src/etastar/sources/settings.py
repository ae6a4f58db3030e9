"""Text of the command line to values: `k=v` settings, sizes, and tensors from `SHAPE[:DTYPE]`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from itertools import product
from typing import Any

import torch

from etastar.errors import ModelSpecError, foreign_errors_as
from etastar.sources.libraries import GivenInputs, example_tensor

__all__ = ["parse_inputs", "parse_settings", "parse_sizes", "split_settings"]

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


def parse_inputs(texts: Iterable[str]) -> GivenInputs | None:
    """Read example inputs, each `[NAME=]SHAPE[:DTYPE]`: positional, or by keyword; None of no text.

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


def parse_sizes(texts: Iterable[str], vary: Iterable[str] = ()) -> tuple[dict[str, int], ...]:
    """Sizes from "depth=3,6,12"; several such texts give every combination.

    Those of `vary` are varied one at a time, the others staying at their first value. The last text
    varies fastest, those of `vary` within each.

    Raises:
        ModelSpecError: Not of that form.

    Example:
        >>> parse_sizes(["width=8,16", "depth=3"])
        ({'width': 8, 'depth': 3}, {'width': 16, 'depth': 3})
        >>> parse_sizes([], vary=["width=8,16", "depth=3,6"])
        ({'width': 8, 'depth': 3}, {'width': 16, 'depth': 3}, {'width': 8, 'depth': 6})
    """
    crossed, varied = list(texts), list(vary)
    axes = _axes([*crossed, *varied])
    names = list(axes)
    inner = names[len(crossed) :]
    first = {name: axes[name][0] for name in inner}
    changes = [{name: value} for name in inner for value in axes[name][1:]]
    every = product(*(axes[name] for name in names[: len(crossed)]))
    outer = [dict(zip(names, values, strict=False)) for values in every]
    return tuple({**size, **first, **change} for size in outer for change in ({}, *changes))


def _axes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Values of each name, in the order given."""
    axes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        numbers = [value.strip() for value in values.split(",")]
        if not name.isidentifier() or name in axes or not all(n.isdecimal() for n in numbers):
            raise ModelSpecError(
                f"sizes {text!r}", "NAME=N,N,..., each name once", "write for example depth=3,6,12"
            )
        axes[name] = tuple(int(number) for number in numbers)
    if not axes:
        raise ModelSpecError("no sizes", "one --sizes or more", "write for example depth=3,6,12")
    return axes
