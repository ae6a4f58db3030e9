"""Sizes from text, the power law that a store shows, and the plan to a target from its optima."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from etastar.errors import FitError, ModelSpecError
from etastar.fit import Optimum, PowerLawFit, fit_power_law
from etastar.formatting import Shown, interval, number
from etastar.sources.model_spec import capture_spec
from etastar.sources.stored_optima import (
    is_of_a_package,
    read_store,
    stored_bases,
    stored_mapping,
)
from etastar.sweep.recipe import format_size
from etastar.transfer import plan_transfer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from etastar.sweep.recipe import Size
    from etastar.transfer import TransferPlan

__all__ = ["StoreFit", "fit_store", "parse_sizes"]


def parse_sizes(texts: Iterable[str], vary: Iterable[str] = ()) -> tuple[dict[str, int], ...]:
    """Sizes from "depth=3,6,12"; several such texts give every combination.

    Args:
        texts: Each NAME=N,N,...
        vary: The same, but varied one at a time, the others staying at their first value.

    Returns:
        Sizes, the last text varying fastest, those of `vary` within each.

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


@dataclass(frozen=True)
class StoreFit(Shown):
    """The power law through the optima of a store.

    Attributes:
        fit: The law in effective depth (in the size's own depth, where the model has no name); None
            where a target was asked for and a single depth has an optimum.
        optima: Size, depth and optimum of every size that has one.
        without_optimum: Sizes of which every rate has a diverged run.
        settings: Settings of the recipe.
        target: Size that was asked for.
        plan: From the optima to it.
    """

    fit: PowerLawFit | None
    optima: tuple[tuple[Size, float, Optimum], ...]
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
            spread = "one seed" if best.interval is None else interval(*best.interval)
            on_line = "-" if self.fit is None else number(self.fit.predict(depth))
            flag = "at the edge" if best.at_edge else ""
            table.add_row(format_size(size), f"{depth:g}", number(best.lr), spread, on_line, flag)
        lines = [line for line in (self._law_line(), self._target_line()) if line]
        return Group(*(Text(line, style="bold") for line in lines), table)

    def _law_line(self) -> str:
        if self.fit is None:
            return ""
        ends = self.fit.exponent_interval
        spread = "no interval" if ends is None else f"95% {ends[0]:.3f} to {ends[1]:.3f}"
        return f"lr ~ depth^{self.fit.exponent:.3f} ({spread}), r^2 = {self.fit.r_squared:.3f}"

    def _target_line(self) -> str:
        if self.plan is None or self.target is None:
            return ""
        line = f"{format_size(tuple(self.target.items()))}: lr {number(self.plan.lr)}"
        ends = self.plan.lr_interval
        within = "" if ends is None else f", 95% {interval(*ends)}"
        return f"{line}{within}, by {self.plan.law}"

    def as_dict(self) -> dict[str, Any]:
        """Exponent, interval, optima and r^2 as JSON-safe values."""
        ends = None if self.fit is None else self.fit.exponent_interval
        asked = {} if self.plan is None else {"target": self.target, "plan": self.plan.as_dict()}
        return {
            "exponent": None if self.fit is None else self.fit.exponent,
            "exponent_interval": None if ends is None else list(ends),
            "r_squared": None if self.fit is None else self.fit.r_squared,
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
    imported or called, but a model of a package (zoo:, hf:, timm:, torchvision:) is built where an
    old store has no depths, and for a target.

    Args:
        storage: Path of a journal file, or URL of a database.
        name: Of the sweep in it.
        model: MODEL to take the depths and the target of in place of what the store has.
        target: Size to plan for; None for the fit alone.
        optimizer: Of the plan, where the store names none.
        law: Of the plan.

    Returns:
        The fit.

    Raises:
        StorageError: The store cannot be read, or holds no runs under this name.
        FitError: Fewer than two depths have an optimum, or the sizes have no depth.
        EtastarError: As `stored_bases` and `plan_transfer`, for a target.
    """
    read = read_store(storage, name=name)
    is_recipe = model is not None and model == read.settings.get("recipe")
    depths = _depths(read.settings, read.depths, None if is_recipe else model)
    optima = tuple((size, depths[size], best) for size, best in read.optima if best is not None)
    without = tuple(size for size, best in read.optima if best is None)
    fit, plan = None, None
    if target is not None:
        tuned, network, kind = stored_bases(read, target, model=model, optimizer=optimizer)
        plan = plan_transfer(tuned, network, optimizer=kind, law=law)
    if target is None or len({depth for _, depth, _ in optima}) > 1:
        fit = fit_power_law([depth for _, depth, _ in optima], [best for _, _, best in optima])
    return StoreFit(fit, optima, without, read.settings, target, plan)


def _depths(
    settings: Mapping[str, str], kept: Mapping[Size, float | None], model: str | None
) -> dict[Size, float]:
    found = {size: depth for size, depth in kept.items() if depth is not None}
    if model is None and len(found) == len(kept):
        return found
    named = settings.get("model") if model is None else model
    if named is not None:
        plain = stored_mapping(settings, "model settings")
        if model is None and not is_of_a_package(named, plain):
            raise FitError(
                f"a store without depths, of the model {named!r} with {plain}, which is not run "
                "unasked",
                "depths, which a sweep of this version keeps",
                f"run the sweep again, or name the model if you trust it: --model {named}",
            )
        graphs = {size: capture_spec(named, {**plain, **dict(size)}) for size in kept}
        return {size: float(graph.depth().effective_depth) for size, graph in graphs.items()}
    return _own_depths(list(kept))


def _own_depths(sizes: Sequence[Size]) -> dict[Size, float]:
    if any("depth" not in dict(size) for size in sizes):
        raise FitError(
            f"sizes {[dict(size) for size in sizes]} of a model without a name",
            "sizes with a depth",
            "call fit_power_law with the effective depths yourself",
        )
    return {size: float(dict(size)["depth"]) for size in sizes}
