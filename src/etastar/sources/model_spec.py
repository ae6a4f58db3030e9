"""Text of the command line to what it names: MODEL, objects, `k=v` settings, sizes, inputs."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etastar.errors import (
    CaptureError,
    EtastarWarning,
    ModelSpecError,
    cause_of,
    foreign_errors_as,
    warnings_ignored,
)
from etastar.graph.capture import capture_graph
from etastar.graph.dag import Graph
from etastar.graph.isolation import random_numbers_kept
from etastar.sources.libraries import SOURCES, GivenInputs, example_tensor
from etastar.sources.own_modules import module_by_name, module_in_file

_FORMS = (
    "zoo:NAME, hf:CLASSNAME, timm:NAME, torchvision:NAME, package.module:factory or "
    "path/file.py:factory"
)

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_SHAPE = re.compile(r"^(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:[,x]\d+)*)(?::(?P<dtype>\w+))?$")


def load_model(
    spec: str,
    settings: dict[str, Any] | None = None,
    *,
    inputs: GivenInputs | None = None,
    device: str = "cpu",
) -> tuple[nn.Module, GivenInputs]:
    """Build the model that a text names, with random weights and example inputs.

    The forms are `zoo:NAME`, `hf:CLASSNAME`, `timm:NAME`, `torchvision:NAME`,
    `package.module:factory` and `path/file.py:factory`. Without `inputs` they are worked out. On
    "meta" it has shapes alone; code that does not run there raises.

    Raises:
        ModelSpecError: The text, a setting or the inputs are not accepted, or code that the text
            names raised.
        MissingExtraError: A library is not installed.

    Example:
        >>> model, (args, kwargs) = load_model("zoo:mlp", {"depth": 2, "width": 8})
        >>> len(args), kwargs
        (1, {})
    """
    place, colon, name = spec.rpartition(":")
    if not (colon and place and name):
        raise ModelSpecError(f"MODEL {spec!r}", _FORMS, "write it in one of these forms")
    if place in SOURCES:
        return SOURCES[place].load(name, settings or {}, device=device, given=inputs)
    return _from_factory(place, name, settings or {}, device=device, given=inputs)


def capture_spec(
    spec: str, settings: dict[str, Any] | None = None, *, inputs: GivenInputs | None = None
) -> Graph:
    """Capture the graph of the model that a text names; see `load_model`.

    The model is built without memory first; where its code needs values, once more with them. A
    warning says so where that is the code that builds it, and `Graph.capture_note` where it is its
    forward pass.

    Raises:
        ModelSpecError: As `load_model`, or the forward pass exited.
        CaptureError: The model does not run on its inputs.

    Example:
        >>> capture_spec("zoo:mlp", {"depth": 2, "width": 8}).capture
        'fake'
    """
    model, found = _without_memory(spec, settings, inputs)
    try:
        return _captured(spec, model, found)
    except CaptureError:
        if not any(parameter.is_meta for parameter in model.parameters()):
            raise
    return _captured(spec, *load_model(spec, settings, inputs=inputs))


def _without_memory(
    spec: str, settings: dict[str, Any] | None, inputs: GivenInputs | None
) -> tuple[nn.Module, GivenInputs]:
    """The model on the meta device; where its code does not run there, with its memory."""
    try:
        return load_model(spec, settings, inputs=inputs, device="meta")
    except ModelSpecError as error:
        if error.__cause__ is None:  # ours: the text, a setting or the inputs
            raise
        cause = cause_of(error.__cause__)
    loaded = load_model(spec, settings, inputs=inputs)
    line = (
        f"{spec} cannot be built without memory for its weights, so it takes that memory: its code "
        f"does not run on PyTorch's meta device ({cause})"
    )
    warnings.warn(EtastarWarning(line), stacklevel=3)
    return loaded


def _captured(spec: str, model: nn.Module, inputs: GivenInputs) -> Graph:
    with foreign_errors_as(
        ModelSpecError,
        f"a forward pass of {spec}",
        "a model that runs on its example inputs",
        "check the model and its inputs, or run with --debug for the traceback",
    ):
        return capture_graph(model, *inputs[0], **inputs[1])


def _from_factory(
    place: str,
    name: str,
    settings: dict[str, Any],
    *,
    device: str = "cpu",
    given: GivenInputs | None,
) -> tuple[nn.Module, GivenInputs]:
    """Call the factory `name` of a module or file; given inputs go before the factory's own.

    It returns the model, or `(model, example_inputs)` with a tensor, a tuple of arguments or a dict
    of keyword arguments. On "meta" only shapes are wanted; what the factory itself puts elsewhere
    is elsewhere.

    Raises:
        ModelSpecError: No such module, file or factory; it raised or exited; no inputs are known.
    """
    spec = f"{place}:{name}"
    factory = named_object(place, name)
    if not callable(factory):
        raise ModelSpecError(
            f"{spec}, where {place} has no callable {name!r}",
            "a function or class that returns a torch.nn.Module",
            "check the name after the colon",
        )
    with foreign_errors_as(
        ModelSpecError,
        f"{spec} with {settings}",
        "a factory that returns a model for these settings",
        "check the settings given with --arg, or run with --debug for the traceback",
    ):
        made = _shapes_alone(factory, settings) if device == "meta" else factory(**settings)
    model, inputs = _split(spec, made)
    inputs = given or inputs
    if inputs is None:
        raise ModelSpecError(
            f"{spec} without example inputs",
            "example inputs, to run the model once",
            "return (model, example_inputs) from the factory; depth and transfer also take "
            "--input SHAPE[:DTYPE]",
        )
    return model, inputs


def _shapes_alone(factory: Callable[..., Any], settings: dict[str, Any]) -> Any:
    # of a checkpoint that the factory loads, of which the shapes are all that is wanted
    in_vain = warnings_ignored(message=".*to a meta parameter.*")
    with random_numbers_kept(), torch.device("meta"), in_vain:
        return factory(**settings)


def named_object(place: str, name: str) -> Any:
    """What a dotted module, or a Python file by its path, calls by a name.

    Raises:
        ModelSpecError: No such module, file or name, or the import raised.

    Example:
        >>> named_object("math", "sqrt")(4.0)
        2.0
    """
    with foreign_errors_as(
        ModelSpecError,
        f"{place}, which could not be imported",
        "a module or file that imports",
        "import it in Python to see the error where it arises, or run with --debug",
    ):
        if place.endswith(".py") and not Path(place).is_file():
            raise ModelSpecError(
                f"file {place}", "a Python file that exists", "check the path before the colon"
            )
        module = module_in_file(Path(place)) if place.endswith(".py") else module_by_name(place)
    if not hasattr(module, name):
        raise ModelSpecError(
            f"{place}:{name}, where {place} has no {name!r}",
            "the name of something that it defines",
            "check the name after the colon",
        )
    return getattr(module, name)


def _split(spec: str, made: Any) -> tuple[nn.Module, GivenInputs | None]:
    """The model, and its inputs as positional and keyword ones."""
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    is_valid = isinstance(model, nn.Module) and isinstance(
        inputs, (Tensor, tuple, dict, type(None))
    )
    if not is_valid:
        raise ModelSpecError(
            f"{spec}, which returned {type(made).__name__}",
            "a torch.nn.Module, or (module, inputs) with a tensor, a tuple of arguments or a dict "
            "of keyword arguments",
            "change what the factory returns",
        )
    if inputs is None:
        return model, None
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    return model, ((), inputs) if isinstance(inputs, dict) else (inputs, {})


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
            advice = "write for example depth=12; a list among others as depths=[3,3,9,3]"
            raise ModelSpecError(f"setting {text!r}", "NAME=VALUE", advice)
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
        dtype = getattr(torch, (match and match["dtype"]) or "float32", None)
        if match is None or not isinstance(dtype, torch.dtype):
            raise ModelSpecError(
                f"input {text!r}",
                "[NAME=]SHAPE[:DTYPE], with a dtype of PyTorch: float32, int64, bool, ...",
                "write for example 2,3,32,32 or input_ids=1,16:int64",
            )
        if match["name"] in kwargs:
            raise ModelSpecError(
                f"input {match['name']!r} twice", "each input once", "leave one of them out"
            )
        with foreign_errors_as(
            ModelSpecError,
            f"input {text!r}",
            "a shape that fits in memory, of a plain dtype",
            "make it smaller, or choose another dtype",
        ):
            shape = [int(n) for n in re.split("[,x]", match["shape"])]
            tensor = example_tensor(shape, dtype)
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
