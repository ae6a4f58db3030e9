"""The criterion as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from etastar.measure import ScanReport, UpdateReport

__all__ = ["scan_table", "update_table"]


def _interval(interval: tuple[float, float] | None) -> str:
    return "one seed" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"


def update_table(report: UpdateReport) -> RenderableType:
    """eta*, and what every pre-activation contributes to it.

    Args:
        report: From `measure_update`.

    Returns:
        Something Rich prints.
    """
    table = Table(title=_headline(report), title_justify="left")
    table.add_column("module")
    table.add_column("weights")
    for heading in ("mean square / eta^2", "95% interval", "second moment"):
        table.add_column(heading, justify="right")
    for layer in report.layers:
        table.add_row(
            layer.module or "(root)",
            layer.name,
            f"{layer.mean_square_update:.4g}",
            _interval(layer.interval),
            f"{layer.second_moment:.4g}",
        )
    return Group(table, *(Text(line) for line in _remarks(report)))


def scan_table(scan: ScanReport, *, name: str) -> RenderableType:
    """eta* at every size, and the power law through it.

    Args:
        scan: From `depth_scan` or `width_scan`.
        name: Of the setting that changed.

    Returns:
        Something Rich prints.
    """
    over = "effective depth" if scan.axis == "depth" else name
    title = f"eta* ~ {over}^{scan.exponent:.3f}, 95% interval {_interval(scan.exponent_interval)}"
    table = Table(title=title, title_justify="left")
    for heading in (name, over, "eta*", "95% interval", "exponent to the next"):
        table.add_column(heading, justify="right")
    slopes = {slope.between[0]: slope for slope in scan.slopes}
    for point in scan.points:
        slope = slopes.get(point.size)
        table.add_row(
            str(point.size),
            f"{point.abscissa:g}",
            f"{point.report.eta_star:.4g}",
            _interval(point.report.eta_star_interval),
            "" if slope is None else f"{slope.exponent:.2f} ({_interval(slope.interval)})",
        )
    return Group(table, *(Text(line) for line in _remarks(scan.points[0].report)))


def _headline(report: UpdateReport) -> str:
    return (
        f"eta* = {report.eta_star:.4g}, 95% interval {_interval(report.eta_star_interval)}; "
        f"M = {report.mean_square_update:.4g}"
    )


def _remarks(report: UpdateReport) -> list[str]:
    lines = [
        f"method: {report.method}; pre-activations: {report.pre_activations}; "
        f"{len(report.seeds)} seeds; cost: {report.cost_steps} training steps' gradients"
    ]
    if report.note:
        lines.append(report.note)
    if report.after:
        found = "" if report.converged else ", which did NOT settle"
        form = f", self-consistent in {report.rounds} rounds{found}" if report.rounds else ""
        lines.append(f"after {report.after} steps at {report.lr:.4g}{form}")
    return lines
