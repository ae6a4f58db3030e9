"""What a store of a sweep holds: its power law, and tuned networks from which a plan can start.

A store is data: of what it names only a model of a package is built, never code of a person's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from etastar.errors import (
    EtastarError,
    FitError,
    ModelSpecError,
    OptimizerError,
    StorageError,
    foreign_errors_as,
)
from etastar.fit import Optimum, PowerLawFit, fit_power_law
from etastar.formatting import Shown, interval, number, seeds_interval
from etastar.graph.capture import NetworkLike
from etastar.graph.isolation import global_state_kept
from etastar.init import initialize_
from etastar.optimizers import OptimizerLike
from etastar.sources.libraries import SOURCES, GivenInputs
from etastar.sources.model_spec import capture_spec, load_model
from etastar.sources.own_code import own_recipe
from etastar.sweep.recipe import Recipe, Size, format_size
from etastar.sweep.result import SizeResult, SweepResult, size_optimum
from etastar.sweep.storage import OptunaStore
from etastar.sweep.storage.connection import shown_location
from etastar.sweep.tuning import recipe_ends
from etastar.transfer import Target, TransferPlan, Tuned, plan_transfer

if TYPE_CHECKING:
    from rich.console import RenderableType


_Point: TypeAlias = "tuple[Size, float, Optimum]"

_PLAIN_WORD = re.compile(r"[\w-]*")


@dataclass(frozen=True)
class StoredSweep:
    """A sweep, read from its store.

    Attributes:
        where: The store, as messages name it.
        sweep: Its runs so far, with the optimum of each size.
        depths: Effective depth of every size, where it was kept.
    """

    where: str
    sweep: SweepResult
    depths: dict[Size, float | None]

    @property
    def settings(self) -> dict[str, str]:
        """Settings of the recipe."""
        return dict(self.sweep.settings)


def read_store(storage: str, *, name: str = "sweep") -> StoredSweep:
    """Read the sweep of a name that a store, a path or URL, holds.

    Raises:
        StorageError: The store cannot be read, or holds no runs under this name.
    """
    store = OptunaStore(storage, name=name)
    with store:
        settings = tuple(store.settings().items())
        runs = [(size, store.records(size)) for size in store.sizes()]
        depths = {size: store.depth(size) for size, _ in runs}
        names = () if runs else store.names()
    if not runs:
        held = f"; it holds {', '.join(map(repr, names))}" if names else ""
        raise StorageError(
            f"{shown_location(storage)} without a run of {name!r}{held}",
            "a store that `etastar sweep` has written",
            "check the path, and --name",
        )
    sizes = tuple(SizeResult(size, records, size_optimum(records)) for size, records in runs)
    return StoredSweep(shown_location(storage), SweepResult(sizes, settings), depths)


def _mapping(settings: Mapping[str, str], key: str) -> dict[str, Any]:
    """A JSON object among the settings of a sweep; empty where it is not set."""
    text = settings.get(key, "{}")
    with foreign_errors_as(
        StorageError,
        f"{key} {text!r}",
        "a JSON object, as a sweep writes it",
        "restore the store from a copy",
    ):
        return dict(json.loads(text))


def _is_of_a_package(model: str, settings: object) -> bool:
    """Whether what a store names is built by a package alone, from plain settings.

    A setting can name code or weights too: transformers fetches kernels, and timm reads
    checkpoints. So text with a dot, a slash or a colon in it is for the person to ask for.

    Example:
        >>> _is_of_a_package("zoo:gpt", {"width": 8}), _is_of_a_package("models.py:make", {})
        (True, False)
    """
    place, _, name = model.rpartition(":")
    return place in SOURCES and "/" not in name and _is_plain(settings)


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
) -> tuple[tuple[Tuned, ...], Target, OptimizerLike]:
    """The tuned networks of a sweep and the target, as `plan_transfer` takes them.

    Networks are built with weights, initialized as the sweep says. `model` is MODEL, or the recipe
    that was swept; None for the model that the store names. So is the optimizer, by its name; of a
    recipe it is the recipe's own, with its settings and the rate that it has, as `tune` plans.

    Returns:
        Bases, target and the optimizer, or its name.

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
    optima = sweep.sweep.optima.items()
    found = {size: best for size, best in optima if best is not None and not best.at_edge}
    if not found:
        raise FitError(
            f"{sweep.where} without an optimum within its range",
            "a size whose loss is lowest between two rates that were run",
            "sweep a wider range of rates",
        )
    if (recipe := _recipe(sweep, model)) is not None:
        if optimizer is not None:
            raise OptimizerError(
                f"the optimizer {optimizer!r} for a recipe", "the recipe's own", "leave it out"
            )
        return recipe_ends(recipe, found, target)
    kind = _swept(sweep, "optimizer", optimizer, error=OptimizerError)
    build = _builder(sweep, model, inputs)
    decay = _mapping(sweep.settings, "optimizer options").get("weight_decay")
    budget: dict[str, Any] = {
        name: _whole(sweep.settings, name) for name in ("batch_size", "num_steps")
    }
    held = {**budget, "weight_decay": decay, "no_decay": ()}  # its optimizer decays everything
    bases = tuple(
        Tuned(build(dict(size)), best.lr, log_lr_sd=best.log_lr_sd, **held)
        for size, best in found.items()
    )
    return bases, Target(build(target), **budget), kind


def _swept(sweep: StoredSweep, what: str, given: str | None, *, error: type[EtastarError]) -> str:
    """The optimizer or model that was swept: the store names it, or else the caller."""
    held = sweep.settings.get(what)
    name = given or held
    if name is None or not (held is None or _is_same(name, held)):
        raise error(
            f"{sweep.where}, of the {what} {held!r}, with {given!r}",
            f"the {what} that was swept",
            f"name that one; where the store does not name it, with --{what}",
        )
    return name


def _is_same(given: str, held: str) -> bool:
    """Whether a name is the one that a store holds; a file may have moved, or be named from afar.

    Example:
        >>> _is_same("/home/me/own.py:net", "own.py:net"), _is_same("own.py:net", "own.py:other")
        (True, False)
    """
    return given == held or (".py:" in held and PurePath(given).name == PurePath(held).name)


def _recipe(sweep: StoredSweep, model: str | None) -> Recipe | None:
    """The recipe that was swept, where that is a person's own and they name it."""
    held = sweep.settings.get("recipe")
    if held is None or not (model is None or _is_same(model, held)):
        return None
    if model is None:
        raise _unasked(f"the recipe {held!r}", held)
    return own_recipe(model, _mapping(sweep.settings, "recipe settings"))


def _unasked(what: str, name: str) -> ModelSpecError:
    return ModelSpecError(
        f"a store of {what}, which is not run unasked",
        f"a model of a package ({', '.join(SOURCES)}) with plain settings, or one that you name",
        f"name it if you trust it: --model {name}",
    )


def _whole(settings: Mapping[str, str], name: str) -> int | None:
    text = settings.get(f"budget.{name}")
    if text is not None and not text.isdecimal():
        raise StorageError(f"budget.{name} {text!r}", "a whole number", "restore the store")
    return None if text is None else int(text)


def _builder(
    sweep: StoredSweep, model: str | None, inputs: GivenInputs | None
) -> Callable[[Mapping[str, Any]], NetworkLike]:
    """What makes the network of a size."""
    named = _swept(sweep, "model", model, error=ModelSpecError)
    settings = _mapping(sweep.settings, "model settings")
    if model is None and not _is_of_a_package(named, settings):
        raise _unasked(f"the model {named!r} with {settings}", named)
    residual = sweep.settings.get("initialization", "own")

    def build(size: Mapping[str, Any]) -> NetworkLike:
        given = {**settings, **size}
        with global_state_kept():
            torch.default_generator.manual_seed(0)
            network, (args, kwargs) = load_model(named, given, inputs=inputs)
        if residual != "own":
            graph = capture_spec(named, given, inputs=inputs)
            initialize_(network, graph, residual=residual)  # type: ignore[arg-type]
        return network, kwargs or args

    return build


@dataclass(frozen=True)
class StoreFit(Shown):
    """The power law through the optima of a store.

    Attributes:
        fit: The law in effective depth (in the size's own depth, where the model has no name); None
            where a target was asked for and there is none.
        at: Settings of the sizes that it goes through, where others differ in them; () for all.
        optima: Size, depth and optimum of every size that has one.
        without_optimum: Sizes of which every rate has a diverged run.
        settings: Settings of the recipe.
        target: Size that was asked for.
        plan: From the optima to it.
    """

    fit: PowerLawFit | None
    at: Size
    optima: tuple[_Point, ...]
    without_optimum: tuple[Size, ...]
    settings: dict[str, str]
    target: Mapping[str, Any] | None = None
    plan: TransferPlan | None = None

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title="optima", title_justify="left")
        table.add_column("size", overflow="fold")
        for heading in ("depth", "lr", "95% interval", "on the line"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        for size, depth, best in self.optima:
            spread = seeds_interval(best.interval)
            is_on = self.fit is not None and set(self.at) <= set(size)
            on_line = number(self.fit.predict(depth)) if self.fit and is_on else "-"
            flag = "at the edge" if best.at_edge else ""
            table.add_row(format_size(size), f"{depth:g}", number(best.lr), spread, on_line, flag)
        held = f"at {format_size(self.at)}: " if self.at else ""
        lines = [] if self.fit is None else [held + str(self.fit).replace("size", "depth", 1)]
        if self.plan is not None and self.target is not None:
            rate = f"{format_size(tuple(self.target.items()))}: lr {number(self.plan.lr)}"
            ends = self.plan.lr_interval
            rate += "" if ends is None else f", 95% {interval(*ends)}"
            lines.append(f"{rate}, by {self.plan.law}")
        return Group(*(Text(line, style="bold") for line in lines), table)

    def as_dict(self) -> dict[str, Any]:
        """Exponent, interval, optima and r^2 as JSON-safe values."""
        asked = {} if self.plan is None else {"target": self.target, "plan": self.plan.as_dict()}
        fit = {} if self.fit is None else self.fit.as_dict()
        return {
            **{name: fit.get(name) for name in ("exponent", "exponent_interval", "r_squared")},
            "at": dict(self.at),
            "optima": [
                {
                    "size": dict(size),
                    "depth": depth,
                    "lr": optimum.lr,
                    "interval": None if optimum.interval is None else list(optimum.interval),
                    "at_edge": optimum.at_edge,
                }
                for size, depth, optimum in self.optima
            ],
            "without_optimum": [dict(size) for size in self.without_optimum],
            "settings": self.settings,
            **asked,
        }


def fit_store(
    storage: str,
    *,
    name: str = "sweep",
    model: str | None = None,
    target: Mapping[str, Any] | None = None,
    optimizer: str | None = None,
    law: str | Sequence[str] = "auto",
) -> StoreFit:
    """Fit log eta* = a + b log L to the optima that a store holds, and plan from them to a target.

    A store is data. The depths are those that the sweep wrote; nothing that the store names is
    imported or called, but a model of a package (zoo:, hf:, timm:, torchvision:) is built for a
    target. `model` and `optimizer` go before what it names.

    Raises:
        StorageError: The store cannot be read, or holds no runs under this name.
        FitError: No two optima differ in one setting that changes the depth, or have no depth.
        EtastarError: As `stored_bases` and `plan_transfer`, for a target.
    """
    read = read_store(storage, name=name)
    depths = _depths(read)
    every = read.sweep.optima.items()
    optima = tuple((size, depths[size], best) for size, best in every if best is not None)
    without = tuple(size for size, best in every if best is None)
    (line, at), plan = _line(optima), None
    if target is not None:
        tuned, network, kind = stored_bases(read, target, model=model, optimizer=optimizer)
        plan = plan_transfer(tuned, network, optimizer=kind, law=law)
    elif not line:
        known = "; ".join(format_size(size) for size, *_ in optima)
        raise FitError(
            f"{read.where} with optima at {known or 'no size'}",
            "optima at two depths or more, between which one setting changes",
            "sweep another depth; a --target is planned from a single one too",
        )
    fit = fit_power_law([one[1] for one in line], [one[2] for one in line]) if line else None
    return StoreFit(fit, at, optima, without, read.settings, target, plan)


def _line(optima: Sequence[_Point]) -> tuple[list[_Point], Size]:
    """Those like the first in all but a setting that changes the depth, and what others differ in.

    Example:
        >>> sizes = [(("depth", d), ("width", w)) for d in (2, 4) for w in (8, 16)]
        >>> line, at = _line([(size, float(size[0][1]), None) for size in sizes])
        >>> [depth for _, depth, _ in line], at
        ([2.0, 4.0], (('width', 8),))
    """
    for name, _ in optima[0][0] if optima else ():
        rest = [tuple(pair for pair in size if pair[0] != name) for size, *_ in optima]
        line = [one for one, held in zip(optima, rest, strict=True) if held == rest[0]]
        if len({depth for _, depth, _ in line}) > 1:
            return line, () if len(line) == len(optima) else rest[0]
    return [], ()


def _depths(stored: StoredSweep) -> dict[Size, float]:
    """Of each size the depth that the store has; where its model has no name its own "depth"."""
    is_named = "model" in stored.settings
    found = {
        size: dict(size).get("depth") if depth is None and not is_named else depth
        for size, depth in stored.depths.items()
    }
    if None in found.values():
        raise FitError(
            f"a store without the depths of {', '.join(map(format_size, found))}",
            "depths, which a sweep keeps where it can capture the model, or sizes with a depth",
            "run the sweep again, or call fit_power_law with the effective depths yourself",
        )
    return {size: float(depth) for size, depth in found.items() if depth is not None}
