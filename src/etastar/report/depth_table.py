"""The depth report as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from etastar.depth import DepthReport, PathStep

__all__ = ["depth_table"]

_SHOWN = 40  # steps of the path, before the middle is left out
_DIGITS = 24


def depth_table(report: DepthReport) -> RenderableType:
    """The report for a terminal: numbers, the shortest path, and what to know about it.

    Args:
        report: A depth report.

    Returns:
        Something Rich prints.

    Example:
        >>> import torch
        >>> from etastar.graph.capture import effective_depth
        >>> type(depth_table(effective_depth(torch.nn.Linear(2, 2), torch.ones(1, 2)))).__name__
        'Group'
    """
    parts: list[RenderableType] = [_numbers(report), Text(), _path(report.path)]
    for line in _notes(report):
        parts += [Text(), line]
    return Group(*parts)


def _integer(value: int) -> str:
    """All digits of a short integer, the size of a long one."""
    digits = str(value)
    if len(digits) <= _DIGITS:
        return f"{value:,}"
    return f"{digits[0]}.{digits[1:4]}e{len(digits) - 1}"


def _numbers(report: DepthReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("effective depth", f"[bold]{report.effective_depth}[/bold]")
    table.add_row("weight layers", str(report.weight_layers))
    table.add_row("residual additions", str(report.residual_additions))
    table.add_row("longest path", f"{report.longest_path} ({report.layer_longest_path} layers)")
    table.add_row("paths", _integer(report.path_count))
    table.add_row("moments M0..M3", "  ".join(map(_integer, report.path_length_moments)))
    table.add_row("layers alone", "  ".join(map(_integer, report.layer_path_length_moments)))
    table.add_row("from, to", f"{', '.join(report.sources)} -> {', '.join(report.outputs)}")
    table.add_row("captured on", f"{report.capture} tensors, {report.seconds:.2f} s")
    return table


def _path(path: tuple[PathStep, ...]) -> Table:
    table = Table(title="shortest path", title_justify="left")
    table.add_column("")
    table.add_column("module", overflow="fold")
    table.add_column("counts as", no_wrap=True)
    table.add_column("operation", overflow="fold")
    head = len(path) if len(path) <= _SHOWN else _SHOWN // 2
    for number, step in enumerate(path, start=1):
        if number <= head or number > len(path) - head:
            table.add_row(str(number), step.module or "(root)", step.counted_as, step.op)
        elif number == head + 1:
            table.add_row("...", f"{len(path) - 2 * head} more", "", "")
    return table


def _notes(report: DepthReport) -> list[Text]:
    lines = [
        ("tied", report.tied, "one table serves embedding and projection"),
        (
            "recurrent",
            report.recurrent,
            "applied again on one path: the depth laws do not cover it",
        ),
        ("unused", report.unused_parameters, "no operation on an activation read them"),
    ]
    notes = [Text(f"{name}: {', '.join(names)} ({why})") for name, names, why in lines if names]
    if report.capture_note:
        notes.append(Text(f"note: {report.capture_note}"))
    return notes
