"""Data and recipes that a person wrote: `path/file.py:name` or `package.module:name`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from torch import Tensor

from etastar.datasets import Dataset, TaskKind
from etastar.errors import MeasureError, ModelSpecError, foreign_errors_as
from etastar.graph.arguments import tensors_in
from etastar.graph.isolation import global_state_kept
from etastar.measure.batch import read_batch
from etastar.sources.libraries import SOURCES
from etastar.sources.model_spec import named_object
from etastar.sweep.recipe import Recipe

_BATCHES = "a function batches(seed, batch_size, num_steps) that gives (inputs, targets) or dicts"


@dataclass(frozen=True)
class OwnBatches:
    """Batches that a person's own function gives, and what the targets of its first batch are.

    The loss is chosen by these: whole numbers are classes or tokens, other numbers a regression.
    None of a dict: the model is called with it, and returns its loss.
    """

    batches: Callable[[int, int, int], Iterable[Any]]
    task: TaskKind | None


def own_data(text: str, options: Mapping[str, Any]) -> Dataset | OwnBatches:
    """The data that `path/file.py:name` or `package.module:name` names, with further arguments.

    That is a `Dataset`, or a function `batches(seed, batch_size, num_steps)`, of which a first
    batch of two examples is looked at.

    Raises:
        ModelSpecError: It is neither, raises, or gives no batches.
    """
    place, _, name = text.rpartition(":")
    found = named_object(place, name)
    if isinstance(found, Dataset) and not options:
        return found
    if not callable(found):
        raise ModelSpecError(
            f"data {text}, a {type(found).__name__}{' with --data-arg' if options else ''}",
            f"{_BATCHES}, or an etastar.datasets.Dataset, which takes no --data-arg",
            "name one of these",
        )
    batches = partial(found, **options)
    with (
        foreign_errors_as(
            ModelSpecError,
            f"the first batch of {text}, asked for as {name}(0, 2, 1)",
            _BATCHES,
            "mend the function, and the options given with --data-arg",
        ),
        global_state_kept(),
    ):
        first = next(iter(batches(0, 2, 1)), None)
    return OwnBatches(batches, _task(text, first))


def _task(text: str, batch: Any) -> TaskKind | None:
    """What the targets of a batch are."""
    try:
        examples = read_batch(batch)
    except MeasureError:
        examples = None
    inputs = () if examples is None else (examples.args, examples.kwargs)
    if examples is not None and next(tensors_in(inputs), None) is not None:
        if examples.targets == examples.kwargs:
            return None
        if isinstance(examples.targets, Tensor):
            return "regression" if examples.targets.is_floating_point() else "classification"
    shown = type(batch).__name__
    if isinstance(batch, (tuple, list)):
        shown = f"({', '.join(type(part).__name__ for part in batch)})"
    raise ModelSpecError(
        f"{text}, whose first batch is {shown}",
        f"{_BATCHES}: tensors, the targets whole numbers for classes, floats for a regression",
        "mend the batches; for a loss of another kind write a recipe",
    )


class OwnRecipe(Recipe):
    """A recipe of a file or module, sent to other processes as its name and its settings."""

    def __reduce__(self) -> tuple[Any, ...]:
        text, settings = self.settings["recipe"], self.settings["recipe settings"]
        return own_recipe, (text, json.loads(settings))


def own_recipe(text: str, settings: Mapping[str, Any]) -> OwnRecipe:
    """The recipe that `path/file.py:name` or `package.module:name` names: one, or a function of it.

    Its name and settings are among those that tell it from another.

    Raises:
        ModelSpecError: It is none, or making it raised.
    """
    place, _, name = text.rpartition(":")
    if not (place and name) or place in SOURCES:
        raise ModelSpecError(
            f"{text!r} without --data",
            "a model with its --data and --optimizer, or path/file.py:recipe, which has all of it",
            "give --data and --optimizer, or name a Recipe",
        )
    found = named_object(place, name)
    is_made = callable(found) and not isinstance(found, Recipe)
    if is_made:
        with foreign_errors_as(
            ModelSpecError,
            f"{text} with {dict(settings)}",
            "a function that returns a Recipe for these settings",
            "check the settings given with --arg, or run with --debug for the traceback",
        ):
            found = found(**settings)
    if not isinstance(found, Recipe) or (settings and not is_made):
        raise ModelSpecError(
            f"{text}, a {type(found).__name__}, with the settings {dict(settings)}",
            "a Recipe, or with --arg a function that returns one (of a model: --data, --optimizer)",
            "change what the name stands for, or give --data and --optimizer",
        )
    kept = json.dumps(dict(settings), sort_keys=True)
    every = {f.name: getattr(found, f.name) for f in fields(Recipe)}
    every["settings"] = {**found.settings, "recipe": text, "recipe settings": kept}
    return OwnRecipe(**every)
