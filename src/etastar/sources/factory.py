"""What an importable module or a Python file defines: objects, and models from its factories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError, foreign_errors_as, warnings_ignored
from etastar.graph.isolation import random_numbers_kept
from etastar.sources.base import GivenInputs, LoadedModel
from etastar.sources.own_modules import module_by_name, module_in_file

__all__ = ["load_from_factory", "named_object"]


def load_from_factory(
    place: str,
    name: str,
    settings: dict[str, Any],
    *,
    device: str = "cpu",
    given: GivenInputs | None,
) -> LoadedModel:
    """Call the factory `name` of a module or file.

    Args:
        place: Dotted module, or path of a Python file.
        name: The factory: it returns the model, or `(model, example_inputs)` with a tensor, a tuple
            of arguments or a dict of keyword arguments.
        settings: Keyword arguments of the factory.
        device: "meta" for shapes alone; what the factory itself puts elsewhere is elsewhere.
        given: Inputs of the caller, which go before the factory's own; None for none.

    Returns:
        The model with its inputs.

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
    return LoadedModel(model, *inputs)


def _shapes_alone(factory: Callable[..., Any], settings: dict[str, Any]) -> Any:
    # of a checkpoint that the factory loads, of which the shapes are all that is wanted
    in_vain = warnings_ignored(message=".*to a meta parameter.*")
    with random_numbers_kept(), torch.device("meta"), in_vain:
        return factory(**settings)


def named_object(place: str, name: str) -> Any:
    """What a module or file calls by a name.

    Args:
        place: Dotted module, or path of a Python file.
        name: The object.

    Returns:
        The object.

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
        module = _module_of_file(place) if place.endswith(".py") else module_by_name(place)
    if not hasattr(module, name):
        raise ModelSpecError(
            f"{place}:{name}, where {place} has no {name!r}",
            "the name of something that it defines",
            "check the name after the colon",
        )
    return getattr(module, name)


def _module_of_file(place: str) -> Any:
    path = Path(place)
    if not path.is_file():
        raise ModelSpecError(
            f"file {place}", "a Python file that exists", "check the path before the colon"
        )
    return module_in_file(path)


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
