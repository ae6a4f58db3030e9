"""A coordinate check as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from etastar.coordinates.coordinate_report import (
        AxisCheck,
        CoordinateReport,
        LayerCheck,
        Trend,
    )

__all__ = ["coordinate_table"]


def coordinate_table(report: CoordinateReport) -> RenderableType:
    """The exponents and verdicts of every layer, and what would mend those that fail.

    Args:
        report: A coordinate check.

    Returns:
        Something Rich prints.
    """
    failures = len(report.failures)
    verdict = "passed" if report.passed else f"failed: {failures} layers depend on the size"
    steps = f"{report.num_steps} steps, {len(report.seeds)} seeds, flat is within {report.band:.2f}"
    parts: list[RenderableType] = [Text(f"{verdict} ({steps})", style="bold")]
    for axis in report.axes:
        parts += [Text(), _axis_table(axis), *_notes(axis)]
    return Group(*parts)


def _axis_table(axis: AxisCheck) -> Table:
    sizes = ", ".join(map(str, axis.sizes))
    table = Table(title=f"exponents in {axis.axis} = {sizes} ({axis.kind})", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("", overflow="fold")
    table.add_column("size at init", justify="right")
    table.add_column("change", justify="right")
    table.add_column("verdict")
    for layer in axis.layers:
        style = None if layer.passed else "red"
        table.add_row(*_row(layer), style=style)
    return table


def _row(layer: LayerCheck) -> tuple[str, str, str, str, str]:
    role = layer.role if layer.role is not None else layer.name
    mark = " (expected)" if layer.exception else ""
    return (
        layer.module or "(root)",
        role,
        _exponent(layer.init),
        _exponent(layer.change),
        f"{layer.verdict}{mark}",
    )


def _exponent(trend: Trend) -> str:
    text = f"{trend.exponent:+.2f}"
    if trend.interval is None:
        return text
    low, high = trend.interval
    return f"{text} [{low:+.2f}, {high:+.2f}]"


def _notes(axis: AxisCheck) -> list[Text]:
    failed = [layer for layer in axis.layers if not layer.passed]
    lines = [
        f"{_title(layer)}: {layer.quantity} {layer.verdict}; {layer.advice} "
        f"(in {', '.join(layer.groups) or 'no group'})"
        for layer in failed
    ]
    excepted: dict[str, list[str]] = {}
    for layer in axis.layers:
        if layer.exception:
            excepted.setdefault(layer.exception, []).append(_title(layer))
    lines += [f"expected: {', '.join(names)}: {reason}" for reason, names in excepted.items()]
    if axis.unmatched:
        lines.append(f"not at every size, without a verdict: {', '.join(axis.unmatched)}")
    return [Text(line) for line in lines]


def _title(layer: LayerCheck) -> str:
    module = layer.module or "(root)"
    return f"{module} ({layer.name})" if layer.role is None else module
