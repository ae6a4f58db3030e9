"""Models from a factory in an importable module or in a Python file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from etastar.errors import ModelSpecError
from etastar.sources.loaded import LoadedModel

__all__ = ["load_from_factory"]


def load_from_factory(
    place: str,
    name: str,
    settings: dict[str, Any],
    *,
    given: tuple[tuple[Any, ...], dict[str, Any]] | None,
) -> LoadedModel:
    """Call the factory `name` of a module or file.

    Args:
        place: Dotted module, or path of a Python file.
        name: The factory: it returns the model, or `(model, example_inputs)` with a tuple of
            arguments or a dict of keyword arguments.
        settings: Keyword arguments of the factory.
        given: Inputs of the caller, which go before the factory's own; None for none.

    Returns:
        The model with its inputs.

    Raises:
        ModelSpecError: No such module, file or factory; it raised; no inputs are known.
    """
    spec = f"{place}:{name}"
    module = _module_from_file(place) if place.endswith(".py") else _module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ModelSpecError(
            f"{spec}, where {place} has no callable {name!r}",
            "a function or class that returns a torch.nn.Module",
            "check the name after the colon",
        )
    model, inputs = _split(spec, _call(spec, factory, settings))
    if given is not None:
        return LoadedModel(model, *given)
    if inputs is None:
        raise ModelSpecError(
            f"{spec} without example inputs",
            "example inputs, to run the model once",
            "give --input SHAPE[:DTYPE], or return (model, example_inputs) from the factory",
        )
    return LoadedModel(model, *inputs)


def _module(place: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise _not_imported(place, error) from error


def _module_from_file(place: str) -> Any:
    path = Path(place)
    if not path.is_file():
        raise ModelSpecError(
            f"file {place}", "a Python file that exists", "check the path before the colon"
        )
    spec = importlib.util.spec_from_file_location(f"etastar_model_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _not_imported(place, error) from error
    finally:
        sys.path.pop(0)
    return module


def _not_imported(place: str, error: Exception) -> ModelSpecError:
    return ModelSpecError(
        f"{place}, which could not be imported: {type(error).__name__}: {error}",
        "a module or file that imports",
        "import it in Python to see the error where it arises, or run with --debug",
    )


def _call(spec: str, factory: Callable[..., Any], settings: dict[str, Any]) -> Any:
    try:
        return factory(**settings)
    except Exception as error:
        raise ModelSpecError(
            f"{spec} with {settings}, which raised {type(error).__name__}: {error}",
            "a factory that returns a model for these settings",
            "check the settings given with --arg, or run with --debug for the traceback",
        ) from error


def _split(spec: str, made: Any) -> tuple[nn.Module, tuple[tuple[Any, ...], dict[str, Any]] | None]:
    """The model, and its inputs as positional and keyword ones."""
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    is_valid = isinstance(model, nn.Module) and isinstance(inputs, (tuple, dict, type(None)))
    if not is_valid:
        raise ModelSpecError(
            f"{spec}, which returned {type(made).__name__}",
            "a torch.nn.Module, or (module, inputs) with a tuple of arguments or a dict of "
            "keyword arguments",
            "change what the factory returns",
        )
    if inputs is None:
        return model, None
    return model, ((), inputs) if isinstance(inputs, dict) else (inputs, {})
