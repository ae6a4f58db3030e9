"""The criterion over sizes, and the power law through it for each setting that varies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from etastar.errors import DepthError, MeasureError, RecurrentError
from etastar.formatting import Shown, json_numbers, number, seeds_interval, shorten_middle
from etastar.measure.batch import (
    Batch,
    LossFn,
    Sizes,
    plain_modes,
    read_batch,
    read_sizes,
    varied_alone,
)
from etastar.measure.differences import PreActivations, SeedUpdate
from etastar.measure.seeds import SeedChoice, half_width, use_seeds
from etastar.measure.subject import Made, OptimizerChoice, Subject, graph_on
from etastar.measure.update import FirstStep, UpdateReport, cost_text, report_of
from etastar.typed import require_callable

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class ScanPoint:
    """One size of a scan.

    Attributes:
        size: The settings of the network.
        effective_depth: Of the network; None where it has none.
        report: The criterion there.
    """

    size: Mapping[str, int]
    effective_depth: float | None
    report: UpdateReport


@dataclass(frozen=True)
class SizeExponent:
    """eta* over one setting, the others as in the first size: eta* = exp(a) x^exponent.

    Attributes:
        values: Of the setting, ascending.
        over: What x is: "effective depth" where that varies with the setting, else the setting.
        abscissas: x at each value.
        exponent: Least-squares exponent over all its points, equal weights; the mean of the
            exponents of the single seeds.
        interval: 95% interval of it, by Student's t on the exponents of the single seeds; None with
            one seed.
        slopes: Exponents between neighbours, where x differs.
    """

    values: tuple[int, ...]
    over: str
    abscissas: tuple[float, ...]
    exponent: float
    interval: tuple[float, float] | None
    slopes: tuple[float, ...]

    @property
    def half_width(self) -> float:
        """Half the width of its interval; infinite with one seed."""
        return math.inf if self.interval is None else (self.interval[1] - self.interval[0]) / 2


@dataclass(frozen=True)
class ScanReport(Shown):
    """eta* at several sizes.

    Attributes:
        points: The sizes, in the order given.
        exponents: By name of each setting that varies alone.
        shortfall: That an exponent's interval is wider than was asked for, and why; "" where not.
    """

    points: tuple[ScanPoint, ...]
    exponents: Mapping[str, SizeExponent]
    shortfall: str = ""

    @property
    def num_passes(self) -> int:
        """Cost of all sizes in forward passes; a gradient counts as three."""
        return sum(point.report.num_passes for point in self.points)

    def as_dict(self) -> dict[str, Any]:
        """The scan as plain data for JSON."""
        points = [
            {"size": dict(one.size), "effective_depth": one.effective_depth, **one.report.as_dict()}
            for one in self.points
        ]
        exponents = {name: asdict(found) for name, found in self.exponents.items()}
        cost = {"num_passes": self.num_passes, "shortfall": self.shortfall}
        return {"exponents": json_numbers(exponents), "points": points, **cost}

    def _caution(self) -> str:
        """The caution of the last size that has one: where depth over width is largest."""
        found = [point for point in self.points if point.report.caution]
        return f"{_size_text(found[-1].size)}: {found[-1].report.caution}" if found else ""

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        lines = [
            Text(
                f"eta* ~ ({one.over})^{number(one.exponent)} ({seeds_interval(one.interval)}); "
                f"between neighbours {', '.join(map(number, one.slopes))}"
            )
            for one in self.exponents.values()
        ]
        table = Table(box=None, pad_edge=False)
        table.add_column("size", overflow="fold")
        for heading in ("effective depth", "eta*", "95% interval"):
            table.add_column(heading, justify="right", no_wrap=True)
        for point in self.points:
            depth = point.effective_depth
            table.add_row(
                shorten_middle(_size_text(point.size), 28),
                "none" if depth is None else number(depth),
                number(point.report.eta_star),
                seeds_interval(point.report.eta_star_interval),
            )
        first = self.points[0].report
        return Group(
            *lines,
            table,
            Text(f"{first.pre_activations}; {cost_text(first.seeds, self.num_passes)}"),
            *(Text(line) for line in (self.shortfall, self._caution()) if line),
        )


def _size_text(size: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in size.items())


def scan_updates(
    make_model: Callable[..., Made],
    sizes: Sizes,
    batch: Batch,
    loss_fn: LossFn | None = None,
    *,
    optimizer: OptimizerChoice | None,
    seeds: SeedChoice = None,
    pre_activations: PreActivations = "stream",
    lr_unit: float | None = None,
) -> ScanReport:
    """Measure eta* at several sizes, and fit its power of each setting that varies.

    Args:
        make_model: `make_model(depth=2, width=64)` gives a model, or (model, optimizer) for plans
            that differ by size; it draws from the global random numbers.
        sizes: Two or more, [{"depth": 2}, {"depth": 4}]. The exponent of a setting is over the
            sizes in which the others are as in the first one.
        batch: As `measure_update` takes it; the same at all sizes.
        loss_fn: Likewise.
        optimizer: Likewise; None where `make_model` gives it.
        seeds: Likewise, the same at all sizes; `UntilPrecise` adds seeds until the intervals of all
            exponents are narrow enough. None for `UntilPrecise()`.
        pre_activations: Likewise.
        lr_unit: Likewise.

    Returns:
        The scan.

    Raises:
        MeasureError: An argument is not accepted, or a rate is not finite.
        CaptureError: A forward pass raised.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> def chain(depth):
        ...     layers = [nn.Linear(8, 8, bias=False) for _ in range(depth)]
        ...     for layer in layers:
        ...         _ = nn.init.orthogonal_(layer.weight)
        ...     return nn.Sequential(*layers)
        >>> scan = scan_updates(
        ...     chain, [{"depth": 4}, {"depth": 8}], (torch.ones(1, 8), None),
        ...     lambda z, _: z.sum(), optimizer="sgd", pre_activations="layers", seeds=1,
        ... )
        >>> round(scan.exponents["depth"].exponent, 1)
        -0.9

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """
    require_callable("make_model", make_model, error=MeasureError)
    every = read_sizes(sizes)
    lines = varied_alone(every)
    step = FirstStep(read_batch(batch), loss_fn, optimizer, pre_activations, lr_unit)
    makes = [partial(make_model, **size) for size in every]
    found: list[list[SeedUpdate]] = [[] for _ in every]

    def measure(seed: int) -> None:
        for make, those in zip(makes, found, strict=True):
            those.append(step.measured(make, seed))

    def exponents(confidence: float) -> dict[str, SizeExponent]:
        fits = {}
        for name, line in lines.items():
            values, places = [size[name] for size in line], [every.index(size) for size in line]
            rates = np.array([[one.log_rate for one in found[place]] for place in places])
            own = [depths[place] for place in places]
            fits[name] = _fitted(name, values, own, rates, confidence)
        return fits

    with plain_modes():
        depths = [_effective_depth(step.subject(make, 0)) for make in makes]
        used = use_seeds(
            seeds, measure, lambda q: max(one.half_width for one in exponents(q).values())
        )
    reports = [report_of(one, used=used, pre_activations=pre_activations) for one in found]
    return ScanReport(
        tuple(ScanPoint(*point) for point in zip(every, depths, reports, strict=True)),
        exponents(used.confidence),
        used.shortfall,
    )


def _effective_depth(subject: Subject) -> float | None:
    graph = graph_on(subject.model, subject.examples)
    try:
        return float(graph.depth().effective_depth)
    except (DepthError, RecurrentError):
        return None


def _fitted(
    name: str,
    values: Sequence[int],
    depths: Sequence[float | None],
    rates: NDArray[np.float64],
    confidence: float,
) -> SizeExponent:
    """The exponent over one setting, from log eta*, (num_sizes, num_seeds).

    Sizes share seeds, so every seed has an exponent of its own, and what a seed does to all sizes
    drops out of it.

    Raises:
        MeasureError: A rate is not finite.
    """
    if not np.isfinite(rates).all():
        raise MeasureError(
            f"eta* of {dict(zip(values, np.exp(rates.mean(1)), strict=True))} over {name}",
            "positive finite rates",
            "check the initialization and the loss of the sizes named",
        )
    own = tuple(depth for depth in depths if depth is not None)
    is_depth = len(own) == len(values) and len(set(own)) > 1
    x = own if is_depth else tuple(map(float, values))
    found = _slopes(x, rates)
    middle, width = float(found.mean()), half_width(found, confidence)
    steps = zip(pairwise(x), pairwise(rates), strict=True)
    return SizeExponent(
        values=tuple(values),
        over="effective depth" if is_depth else name,
        abscissas=x,
        exponent=middle,
        interval=None if len(found) == 1 else (middle - width, middle + width),
        slopes=tuple(
            float(_slopes(ends, np.array(both)).mean()) for ends, both in steps if len({*ends}) > 1
        ),
    )


def _slopes(x: Sequence[float], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slopes of (num_sizes, num_curves) log rates over log x."""
    centred = np.log(x) - np.log(x).mean()
    return np.asarray(centred @ y / (centred @ centred))
