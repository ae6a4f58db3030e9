"""Sweeps of named models: effective depth of each size, and the power law that a store shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from etastar.errors import FitError, ModelSpecError, StorageError
from etastar.fit import Optimum, PowerLawFit, fit_power_law
from etastar.graph import effective_depth
from etastar.sources.model_spec import capture_spec
from etastar.sweep.optimum import size_optimum
from etastar.sweep.storage.opening import as_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from etastar.sweep.space import Size

__all__ = ["StoreFit", "fit_store", "parse_axes", "parse_sizes", "size_depths"]


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
    axes = parse_axes([*crossed, *varied])
    names = list(axes)
    inner = names[len(crossed) :]
    first = {name: axes[name][0] for name in inner}
    changes = [{name: value} for name in inner for value in axes[name][1:]]
    every = product(*(axes[name] for name in names[: len(crossed)]))
    outer = [dict(zip(names, values, strict=False)) for values in every]
    return tuple({**size, **first, **change} for size in outer for change in ({}, *changes))


def parse_axes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Values of each setting from "depth=3,6,12" and the like.

    Args:
        texts: Each NAME=N,N,...

    Returns:
        Name to values, in the order given.

    Raises:
        ModelSpecError: Not of that form.

    Example:
        >>> parse_axes(["width=8,16", "depth=3"])
        {'width': (8, 16), 'depth': (3,)}
    """
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


def size_depths(
    model: str, settings: Mapping[str, Any], sizes: Iterable[Size | Mapping[str, int]]
) -> dict[Size, float]:
    """Effective depth of a named model at each size.

    Args:
        model: MODEL, as the command line takes it.
        settings: Its settings at all sizes.
        sizes: The sizes.

    Returns:
        Effective depth by size.

    Raises:
        ModelSpecError: The model cannot be built.
        CaptureError: It does not run.

    Example:
        >>> size_depths("zoo:resmlp", {"width": 8}, [{"depth": 3}])
        {(('depth', 3),): 5.0}
    """
    depths: dict[Size, float] = {}
    for size in sizes:
        graph = capture_spec(model, {**settings, **dict(size)})
        depths[tuple(sorted(dict(size).items()))] = float(effective_depth(graph).effective_depth)
    return depths


@dataclass(frozen=True)
class StoreFit:
    """The power law through the optima of a store.

    Attributes:
        fit: The law in effective depth (in the size's own depth, where the model has no name).
        optima: Size, depth and optimum of every size that has one.
        without_optimum: Sizes of which every rate has a diverged run.
        settings: Settings of the experiment.
    """

    fit: PowerLawFit
    optima: tuple[tuple[Size, float, Optimum], ...]
    without_optimum: tuple[Size, ...]
    settings: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Exponent, interval, optima and r^2 as JSON-safe values."""
        interval = self.fit.exponent_interval
        return {
            "exponent": self.fit.exponent,
            "exponent_interval": None if interval is None else list(interval),
            "r_squared": self.fit.r_squared,
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
        }


def fit_store(storage: str, *, name: str = "sweep") -> StoreFit:
    """Fit log eta* = a + b log L to the optima that a store holds.

    Args:
        storage: Path of a journal file, or URL of a database.
        name: Of the experiment in it.

    Returns:
        The fit.

    Raises:
        StorageError: The store cannot be read, or holds no runs under this name.
        FitError: Fewer than two depths have an optimum, or the sizes have no depth.
    """
    with as_store(storage, name=name) as store:
        settings = store.settings()
        found = [(size, size_optimum(store.records(size))) for size in store.sizes()]
    if not found:
        raise StorageError(
            f"{storage} without a run of {name!r}",
            "a store that `etastar sweep` has written",
            "check the path, and --name",
        )
    depths = _depths(settings, [size for size, _ in found])
    optima = tuple((size, depths[size], best) for size, best in found if best is not None)
    fit = fit_power_law([depth for _, depth, _ in optima], [best for _, _, best in optima])
    without = tuple(size for size, best in found if best is None)
    return StoreFit(fit, optima, without, settings)


def _depths(settings: Mapping[str, str], sizes: Sequence[Size]) -> dict[Size, float]:
    if "model" in settings:
        common = json.loads(settings.get("model settings", "{}"))
        return size_depths(settings["model"], common, sizes)
    if any("depth" not in dict(size) for size in sizes):
        raise FitError(
            f"sizes {[dict(size) for size in sizes]} of a model without a name",
            "sizes with a depth",
            "call fit_power_law with the effective depths yourself",
        )
    return {size: float(dict(size)["depth"]) for size in sizes}
