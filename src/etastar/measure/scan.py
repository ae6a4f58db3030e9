"""The criterion over sizes, and the power law through it for each setting that varies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from etastar.errors import DepthError, MeasureError, RecurrentError
from etastar.fit import fit_power_law
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.formatting import Shown, json_numbers, number, shorten_middle
from etastar.measure.ambient import plain_modes
from etastar.measure.batch import Batch, LossFn, read_batch
from etastar.measure.input_checks import Sizes, read_sizes, varied_alone
from etastar.measure.subject import made_graph
from etastar.measure.update import measure_update
from etastar.measure.update_report import ends_text
from etastar.typed import as_seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import RenderableType

    from etastar.measure.batch import Examples
    from etastar.measure.chosen_optimizer import OptimizerChoice
    from etastar.measure.pre_activations import PreActivations
    from etastar.measure.subject import Made
    from etastar.measure.update_report import UpdateReport

__all__ = ["ScanPoint", "ScanReport", "SizeExponent", "Slope", "scan_updates"]


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
class Slope:
    """Exponent of eta* between two neighbouring sizes.

    Attributes:
        between: The two values of the setting.
        exponent: log ratio of eta* over log ratio of the abscissas.
        interval: 95% interval over seeds; None with one seed.
    """

    between: tuple[int, int]
    exponent: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class SizeExponent:
    """eta* over one setting, the others as in the first size: eta* = exp(a) x^exponent.

    Attributes:
        over: What x is: "effective depth" where that varies with the setting, else the setting.
        abscissas: x at each value, ascending.
        exponent: Least-squares exponent over all its points, equal weights.
        interval: 95% interval of it, by resampling the seeds of all sizes together; None with one
            seed.
        r_squared: Share of the variance of log eta* that the line explains.
        slopes: Exponents between neighbours.
    """

    over: str
    abscissas: tuple[float, ...]
    exponent: float
    interval: tuple[float, float] | None
    r_squared: float
    slopes: tuple[Slope, ...]


@dataclass(frozen=True)
class ScanReport(Shown):
    """eta* at several sizes.

    Attributes:
        points: The sizes, in the order given.
        exponents: By name of each setting that varies alone.
    """

    points: tuple[ScanPoint, ...]
    exponents: Mapping[str, SizeExponent]

    def as_dict(self) -> dict[str, Any]:
        """The scan as plain data for JSON."""
        points = [
            {"size": dict(one.size), "effective_depth": one.effective_depth, **one.report.as_dict()}
            for one in self.points
        ]
        exponents = {name: asdict(found) for name, found in self.exponents.items()}
        return {"exponents": json_numbers(exponents), "points": points}

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        lines = [
            Text(
                f"eta* ~ ({one.over})^{number(one.exponent)} ({ends_text(one.interval)}); between "
                f"neighbours {', '.join(number(slope.exponent) for slope in one.slopes)}"
            )
            for one in self.exponents.values()
        ]
        table = Table(box=None, pad_edge=False)
        table.add_column("size", overflow="fold")
        for heading in ("effective depth", "eta*", "95% interval"):
            table.add_column(heading, justify="right", no_wrap=True)
        for point in self.points:
            size = ", ".join(f"{name}={value}" for name, value in point.size.items())
            depth = point.effective_depth
            table.add_row(
                shorten_middle(size, 28),
                "none" if depth is None else number(depth),
                number(point.report.eta_star),
                ends_text(point.report.eta_star_interval),
            )
        first = self.points[0].report
        return Group(*lines, table, Text(f"{first.pre_activations}; {len(first.seeds)} seeds"))


def scan_updates(
    make_model: Callable[..., Made],
    sizes: Sizes,
    batch: Batch,
    loss_fn: LossFn | None = None,
    *,
    optimizer: OptimizerChoice | None,
    seeds: int | Sequence[int] = 3,
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
        seeds: Likewise.
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
    every, examples = read_sizes(sizes), read_batch(batch)
    lines, numbers = varied_alone(every), as_seeds(seeds, error=MeasureError)
    points = tuple(
        ScanPoint(
            size,
            _effective_depth(partial(make_model, **size), examples, seed=numbers[0]),
            measure_update(
                partial(make_model, **size),
                batch,
                loss_fn,
                optimizer=optimizer,
                seeds=numbers,
                pre_activations=pre_activations,
                lr_unit=lr_unit,
            ),
        )
        for size in every
    )
    return ScanReport(
        points,
        {
            name: _exponent(name, [p for size in line for p in points if p.size == size])
            for name, line in lines.items()
        },
    )


def _effective_depth(make: Callable[[], Made], examples: Examples, *, seed: int) -> float | None:
    with plain_modes():
        graph = made_graph(make, examples, seed=seed)
        try:
            return float(graph.depth().effective_depth)
        except (DepthError, RecurrentError):
            return None


def _exponent(name: str, points: Sequence[ScanPoint]) -> SizeExponent:
    values = [point.size[name] for point in points]
    depths = [point.effective_depth for point in points]
    is_depth = None not in depths and len(set(depths)) > 1
    rates = [point.report.eta_star for point in points]
    if not all(0 < rate < np.inf for rate in rates):
        raise MeasureError(
            f"eta* of {dict(zip(values, rates, strict=True))} over {name}",
            "positive finite rates",
            "check the initialization and the loss of the sizes named",
        )
    x = np.array(depths if is_depth else values, dtype=np.float64)
    drawn = _drawn_rates([point.report for point in points])
    fit = fit_power_law(x, rates)
    return SizeExponent(
        over="effective depth" if is_depth else name,
        abscissas=tuple(x.tolist()),
        exponent=fit.exponent,
        interval=_interval(x, drawn),
        r_squared=fit.r_squared,
        slopes=tuple(
            Slope(
                (values[i], values[i + 1]),
                float(_slopes(x[i : i + 2], np.log(rates[i : i + 2])[:, None])[0]),
                _interval(x[i : i + 2], None if drawn is None else drawn[i : i + 2]),
            )
            for i in range(len(values) - 1)
            if x[i] != x[i + 1]
        ),
    )


def _drawn_rates(reports: Sequence[UpdateReport]) -> NDArray[np.float64] | None:
    """Log eta* of resampled seeds, (num_sizes, num_resamples), the same draw at all sizes."""
    totals = np.array([report.by_seed for report in reports], dtype=np.float64)
    if totals.shape[1] == 1:
        return None
    draws = resampled_seeds(totals.shape[1])
    return np.asarray(-0.5 * np.log(totals[:, draws].mean(axis=2)))


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slopes of (num_sizes, num_curves) log rates over log x."""
    centred = np.log(x) - np.log(x).mean()
    return np.asarray(centred @ y / (centred @ centred))


def _interval(
    x: NDArray[np.float64], drawn: NDArray[np.float64] | None
) -> tuple[float, float] | None:
    return None if drawn is None else percentile_interval(_slopes(x, drawn))
