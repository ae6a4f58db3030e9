"""What a store of a sweep holds, as tuned networks from which a plan can start.

A store is data: of what it names only a model of a package is built, never code of a person's own.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from etastar.errors import (
    FitError,
    ModelSpecError,
    OptimizerError,
    StorageError,
    foreign_errors_as,
)
from etastar.graph.isolation import global_state_kept
from etastar.init import initialize_
from etastar.sources.base import GivenInputs
from etastar.sources.model_spec import capture_spec, load_model
from etastar.sources.own_code import own_recipe
from etastar.sweep.recipe import as_size
from etastar.sweep.result import log_lr_sd, size_optimum
from etastar.sweep.starting import size_network
from etastar.sweep.storage import as_store
from etastar.sweep.storage.connection import shown_location
from etastar.transfer import Target, Tuned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etastar.fit import Optimum
    from etastar.graph.capture import NetworkLike
    from etastar.sweep.recipe import Size

__all__ = [
    "OWN_FORMS",
    "StoredSweep",
    "is_of_a_package",
    "read_store",
    "stored_bases",
    "stored_mapping",
]

_PLAIN_WORD = re.compile(r"[\w-]*")

OWN_FORMS = ("zoo", "hf", "timm", "torchvision")
"""Forms of MODEL that name a model of a package, and run no code of the person who wrote them."""


@dataclass(frozen=True)
class StoredSweep:
    """A sweep, read from its store.

    Attributes:
        where: The store, as messages name it.
        settings: Settings of the recipe.
        optima: Size and optimum; None where every rate has a diverged run.
        depths: Effective depth of every size, where it was kept.
    """

    where: str
    settings: dict[str, str]
    optima: tuple[tuple[Size, Optimum | None], ...]
    depths: dict[Size, float | None]


def read_store(storage: str, *, name: str = "sweep") -> StoredSweep:
    """Read the sweep that a store holds.

    Args:
        storage: Path of a journal file, or URL of a database.
        name: Of the sweep in it.

    Returns:
        Its settings, optima and depths.

    Raises:
        StorageError: The store cannot be read, or holds no runs under this name.
    """
    with as_store(storage, name=name) as store:
        settings = store.settings()
        optima = tuple((size, size_optimum(store.records(size))) for size in store.sizes())
        depths = {size: store.depth(size) for size, _ in optima}
    if not optima:
        raise StorageError(
            f"{shown_location(storage)} without a run of {name!r}",
            "a store that `etastar sweep` has written",
            "check the path, and --name",
        )
    return StoredSweep(shown_location(storage), settings, optima, depths)


def stored_mapping(settings: Mapping[str, str], key: str) -> dict[str, Any]:
    """A JSON object among the settings of a sweep; empty where it is not set.

    Args:
        settings: Of the sweep.
        key: Of the setting.

    Returns:
        Its values.

    Raises:
        StorageError: It is no JSON object.

    Example:
        >>> stored_mapping({"model settings": '{"width": 8}'}, "model settings")
        {'width': 8}
    """
    text = settings.get(key, "{}")
    with foreign_errors_as(
        StorageError,
        f"{key} {text!r}",
        "a JSON object, as a sweep writes it",
        "restore the store from a copy",
    ):
        return dict(json.loads(text))


def is_of_a_package(model: str, settings: object) -> bool:
    """Whether what a store names is built by a package alone, from plain settings.

    A setting can name code or weights too: transformers fetches kernels, and timm reads
    checkpoints. So text with a dot, a slash or a colon in it is for the person to ask for.

    Args:
        model: MODEL of the store.
        settings: Its settings.

    Returns:
        Whether it may be built unasked.

    Example:
        >>> is_of_a_package("zoo:gpt", {"width": 8}), is_of_a_package("models.py:make", {})
        (True, False)
    """
    place, _, name = model.rpartition(":")
    return place in OWN_FORMS and "/" not in name and _is_plain(settings)


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, str) or _PLAIN_WORD.fullmatch(value) is not None


def stored_bases(
    sweep: StoredSweep,
    target: Mapping[str, Any],
    *,
    model: str | None = None,
    optimizer: str | None = None,
    inputs: GivenInputs | None = None,
) -> tuple[tuple[Tuned, ...], Target, str]:
    """The tuned networks of a sweep and the target, as `plan_transfer` takes them.

    Networks are built with weights, initialized as the sweep says.

    Args:
        sweep: From `read_store`.
        target: Size of the target.
        model: MODEL, or the recipe that was swept; None for the model that the store names.
        optimizer: Its name; None for the one that the store names.
        inputs: Example inputs of the model; None to work them out.

    Returns:
        Bases, target and the optimizer's name.

    Raises:
        ModelSpecError: A model is not named, is another one, or cannot be built.
        OptimizerError: An optimizer is not named, or is another one.
        StorageError: The settings of the store are not those of a sweep.
        FitError: No size has an optimum within its range, or it is a sweep under a plan.
    """
    if "plan law" in sweep.settings:
        raise FitError(
            f"{sweep.where}, a sweep under a plan of the law {sweep.settings['plan law']}",
            "a sweep with one rate for all parameters: under a plan its rates are those of the "
            "plan's base",
            "sweep without --plan-law",
        )
    found = [(size, best) for size, best in sweep.optima if best is not None and not best.at_edge]
    if not found:
        raise FitError(
            f"{sweep.where} without an optimum within its range",
            "a size whose loss is lowest between two rates that were run",
            "sweep a wider range of rates",
        )
    kind = _optimizer(sweep, optimizer)
    build = _builder(sweep, model, inputs)
    decay = stored_mapping(sweep.settings, "optimizer options").get("weight_decay")
    budget: dict[str, Any] = {
        name: _whole(sweep.settings, name) for name in ("batch_size", "num_steps")
    }
    held = {**budget, "weight_decay": decay, "no_decay": ()}  # its optimizer decays everything
    bases = tuple(
        Tuned(build(dict(size)), best.lr, log_lr_sd=log_lr_sd(best), **held) for size, best in found
    )
    return bases, Target(build(target), **budget), kind


def _optimizer(sweep: StoredSweep, given: str | None) -> str:
    held = sweep.settings.get("optimizer")
    name = given or held
    if name is None or held not in (None, name):
        raise OptimizerError(
            f"{sweep.where}, of the optimizer {held!r}, with {given!r}",
            "the optimizer that was swept",
            "name it with --optimizer where the store does not, and leave it out where it does",
        )
    return name


def _whole(settings: Mapping[str, str], name: str) -> int | None:
    text = settings.get(f"budget.{name}")
    if text is not None and not text.isdecimal():
        raise StorageError(f"budget.{name} {text!r}", "a whole number", "restore the store")
    return None if text is None else int(text)


def _builder(
    sweep: StoredSweep, model: str | None, inputs: GivenInputs | None
) -> Callable[[Mapping[str, Any]], NetworkLike]:
    """What makes the network of a size."""
    held = sweep.settings.get("model")
    named = held if model is None else model
    if named is not None and named == sweep.settings.get("recipe") and model is not None:
        recipe = own_recipe(named, stored_mapping(sweep.settings, "recipe settings"))
        return lambda size: size_network(recipe, as_size(size))
    if named is None or held not in (None, named):
        raise ModelSpecError(
            f"{sweep.where}, of the model {held!r}, with {model!r}",
            "the model that was swept",
            "name it where the store does not: --model",
        )
    settings = stored_mapping(sweep.settings, "model settings")
    if model is None and not is_of_a_package(named, settings):
        raise ModelSpecError(
            f"a store of the model {named!r} with {settings}, which is not run unasked",
            f"a model of a package ({', '.join(OWN_FORMS)}) with plain settings, or one that you "
            "name",
            f"name it if you trust it: --model {named}",
        )
    residual = sweep.settings.get("initialization", "own")

    def build(size: Mapping[str, Any]) -> NetworkLike:
        given = {**settings, **size}
        with global_state_kept():
            torch.default_generator.manual_seed(0)
            loaded = load_model(named, given, inputs=inputs)
        if residual != "own":
            graph = capture_spec(named, given, inputs=inputs)
            initialize_(loaded.model, graph, residual=residual)  # type: ignore[arg-type]
        return loaded.model, loaded.kwargs or loaded.args

    return build
