"""The criterion over depth or width, and the power law through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from etastar.errors import MeasureError
from etastar.fit import fit_power_law
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.graph import capture_graph, effective_depth
from etastar.graph.isolation import global_state_kept
from etastar.measure.batch import Batch, LossFn, read_batch
from etastar.measure.reporting import NUM_RESAMPLES
from etastar.measure.update import measure_update

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from etastar.measure.optimizers import OptimizerChoice
    from etastar.measure.options import MeasureOptions
    from etastar.measure.records import UpdateReport

__all__ = ["ScanPoint", "ScanReport", "Slope", "depth_scan", "width_scan"]

Factory = Callable[[int], nn.Module]
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class ScanPoint:
    """One size of a scan.

    Attributes:
        size: What the factory was given.
        abscissa: What the fit is over: effective depth, or the width itself.
        report: The criterion there.
    """

    size: int
    abscissa: float
    report: UpdateReport


@dataclass(frozen=True)
class Slope:
    """Exponent of eta* between two neighbouring sizes.

    Attributes:
        between: The two sizes.
        exponent: log ratio of eta* over log ratio of the abscissas.
        interval: 95% interval over seeds; None with one seed.
    """

    between: tuple[int, int]
    exponent: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class ScanReport:
    """eta* over depth or width: eta* = exp(a) x^exponent.

    Attributes:
        axis: "depth" (x is the effective depth) or "width".
        points: The sizes, ascending in x; all are in the fit.
        exponent: Least-squares exponent over all points, equal weights.
        exponent_interval: 95% interval of it, by resampling the seeds of all sizes together; None
            with one seed.
        r_squared: Share of the variance of log eta* that the line explains.
        slopes: Exponents between neighbours.
    """

    axis: Literal["depth", "width"]
    points: tuple[ScanPoint, ...]
    exponent: float
    exponent_interval: tuple[float, float] | None
    r_squared: float
    slopes: tuple[Slope, ...]

    def as_dict(self) -> dict[str, Any]:
        """The scan as JSON-safe values."""
        return {
            "axis": self.axis,
            "exponent": self.exponent,
            "exponent_interval": _listed(self.exponent_interval),
            "r_squared": self.r_squared,
            "points": [
                {"size": p.size, self._abscissa: p.abscissa, **p.report.as_dict()}
                for p in self.points
            ],
            "slopes": [
                {
                    "between": list(slope.between),
                    "exponent": slope.exponent,
                    "interval": _listed(slope.interval),
                }
                for slope in self.slopes
            ],
        }

    @property
    def _abscissa(self) -> str:
        return "effective_depth" if self.axis == "depth" else "width"


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def depth_scan(
    factory: Factory,
    depths: Sequence[int],
    batch: Batch,
    loss_fn: LossFn | None = None,
    *,
    optimizer: OptimizerChoice | Mapping[int, OptimizerChoice],
    **options: Unpack[MeasureOptions],
) -> ScanReport:
    """Measure eta* at several depths and fit its power of the effective depth.

    Args:
        factory: From a depth to a model; it draws from PyTorch's global random numbers.
        depths: Two or more, as the factory takes them.
        batch: As `measure_update` takes it; the same at all depths.
        loss_fn: Likewise.
        optimizer: Likewise; or a dict from depth to one, for plans that differ by depth.
        **options: Further keyword arguments of `measure_update`.

    Returns:
        The scan.

    Raises:
        MeasureError: Fewer than two depths, or a rate that is not finite.
        CaptureError: A forward pass raised.

    Example:
        >>> def chain(depth):
        ...     layers = [nn.Linear(8, 8, bias=False) for _ in range(depth)]
        ...     for layer in layers:
        ...         _ = nn.init.orthogonal_(layer.weight)
        ...     return nn.Sequential(*layers)
        >>> batch = (torch.ones(1, 8), None)
        >>> scan = depth_scan(chain, [4, 8], batch, lambda z, _: z.sum(), optimizer="sgd")
        >>> round(scan.exponent, 1)
        -0.9

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """
    examples = read_batch(batch)

    def depth_of(size: int) -> float:
        with global_state_kept():
            torch.manual_seed(0)
            graph = capture_graph(factory(size), *examples.args, **examples.kwargs)
        return float(effective_depth(graph).effective_depth)

    found = _measured(factory, depths, batch, loss_fn, optimizer, options)
    return _scan("depth", {size: depth_of(size) for size in found}, found)


def width_scan(
    factory: Factory,
    widths: Sequence[int],
    batch: Batch,
    loss_fn: LossFn | None = None,
    *,
    optimizer: OptimizerChoice | Mapping[int, OptimizerChoice],
    **options: Unpack[MeasureOptions],
) -> ScanReport:
    """Measure eta* at several widths and fit its power of the width.

    Args:
        factory: From a width to a model; it draws from PyTorch's global random numbers.
        widths: Two or more, as the factory takes them.
        batch: As `measure_update` takes it; the same at all widths.
        loss_fn: Likewise.
        optimizer: Likewise; or a dict from width to one, for plans that differ by width.
        **options: Further keyword arguments of `measure_update`.

    Returns:
        The scan.

    Raises:
        MeasureError: Fewer than two widths, or a rate that is not finite.
        CaptureError: A forward pass raised.

    Example:
        >>> def layer(width):
        ...     return nn.Linear(4, width, bias=False)
        >>> batch = (torch.ones(1, 4), None)
        >>> scan = width_scan(layer, [8, 32], batch, lambda z, _: z.sum(), optimizer="sgd")
        >>> abs(round(scan.exponent, 2))
        0.0
    """
    found = _measured(factory, widths, batch, loss_fn, optimizer, options)
    return _scan("width", {size: float(size) for size in found}, found)


def _measured(
    factory: Factory,
    sizes: Sequence[int],
    batch: Batch,
    loss_fn: LossFn | None,
    optimizer: OptimizerChoice | Mapping[int, OptimizerChoice],
    options: MeasureOptions,
) -> dict[int, UpdateReport]:
    if len(set(sizes)) < 2:
        raise MeasureError(f"sizes {list(sizes)}", "two different ones or more", "give more sizes")
    if isinstance(optimizer, Mapping) and any(size not in optimizer for size in sizes):
        raise MeasureError(
            f"optimizers for {sorted(optimizer)}",
            f"one for each of {sorted(set(sizes))}",
            "add those that are missing",
        )
    return {
        size: measure_update(
            lambda size=size: factory(size),  # type: ignore[misc]
            batch,
            loss_fn,
            optimizer=optimizer[size] if isinstance(optimizer, Mapping) else optimizer,
            **options,
        )
        for size in dict.fromkeys(sizes)
    }


def _scan(
    axis: Literal["depth", "width"],
    abscissas: Mapping[int, float],
    found: Mapping[int, UpdateReport],
) -> ScanReport:
    sizes = sorted(found, key=lambda size: abscissas[size])
    rates = [found[size].eta_star for size in sizes]
    if not all(0 < rate < np.inf for rate in rates):
        raise MeasureError(
            f"eta* of {dict(zip(sizes, rates, strict=True))}",
            "positive finite rates",
            "check the initialization and the loss of the sizes named",
        )
    x = np.array([abscissas[size] for size in sizes])
    drawn = _drawn_rates([found[size] for size in sizes])
    fit = fit_power_law(x, rates)
    return ScanReport(
        axis=axis,
        points=tuple(ScanPoint(size, abscissas[size], found[size]) for size in sizes),
        exponent=fit.exponent,
        exponent_interval=_interval(x, drawn),
        r_squared=fit.r_squared,
        slopes=tuple(
            Slope(
                (sizes[i], sizes[i + 1]),
                float(_exponents(x[i : i + 2], np.log(rates[i : i + 2])[:, None])[0]),
                _interval(x[i : i + 2], None if drawn is None else drawn[i : i + 2]),
            )
            for i in range(len(sizes) - 1)
            if x[i] != x[i + 1]
        ),
    )


def _drawn_rates(reports: Sequence[UpdateReport]) -> NDArray[np.float64] | None:
    """Log eta* of resampled seeds, (num_sizes, num_resamples), the same draw at all sizes."""
    totals = np.array([report.by_seed for report in reports], dtype=np.float64)
    if totals.shape[1] == 1:
        return None
    draws = resampled_seeds(totals.shape[1], num_resamples=NUM_RESAMPLES, seed=0)
    return np.asarray(-0.5 * np.log(totals[:, draws].mean(axis=2)))


def _exponents(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slopes of (num_sizes, num_curves) log rates over log x."""
    centred = np.log(x) - np.log(x).mean()
    return np.asarray(centred @ y / (centred @ centred))


def _interval(x: NDArray[np.float64], drawn: NDArray[np.float64] | None) -> Any:
    if drawn is None:
        return None
    return percentile_interval(_exponents(x, drawn), _CONFIDENCE)
