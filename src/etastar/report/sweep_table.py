"""Sweeps and fits as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etastar.fit import Optimum, PowerLawFit
    from etastar.sweep.progress import Progress
    from etastar.sweep.result import SweepResult
    from etastar.sweep.space import Size

__all__ = ["fit_table", "progress_text", "size_text", "sweep_table"]


def size_text(size: Size | Mapping[str, int]) -> str:
    """A size in one word.

    Args:
        size: A size.

    Returns:
        Its settings.

    Example:
        >>> size_text({"depth": 3, "width": 8})
        'depth=3,width=8'
    """
    return ",".join(f"{name}={value}" for name, value in dict(size).items())


def _interval(optimum: Optimum) -> str:
    if optimum.interval is None:
        return "one seed"
    low, high = optimum.interval
    return f"{low:.3g} to {high:.3g}"


def sweep_table(result: SweepResult) -> RenderableType:
    """The optimum of every size, with its flags and its cost.

    Args:
        result: A finished sweep.

    Returns:
        Something Rich prints.
    """
    table = Table(title=f"optima, {result.steps:,} steps in all", title_justify="left")
    for heading in ("size", "lr", "95% interval", "loss", "runs", "steps", "flags"):
        table.add_column(heading, justify="left" if heading in ("size", "flags") else "right")
    for size in result.sizes:
        best = size.optimum
        numbers = (
            ("-",) * 3 if best is None else (f"{best.lr:.4g}", _interval(best), f"{best.loss:.4g}")
        )
        counts = (str(len(size.trials)), f"{size.steps:,}", ", ".join(size.flags))
        table.add_row(size_text(size.size), *numbers, *counts)
    return table


def fit_table(fit: PowerLawFit, optima: tuple[tuple[Size, float, Optimum], ...]) -> RenderableType:
    """A power law with the optima that it goes through.

    Args:
        fit: The power law.
        optima: Size, depth and optimum.

    Returns:
        Something Rich prints.
    """
    table = Table(title="optima", title_justify="left")
    for heading in ("size", "effective depth", "lr", "95% interval", "on the line", ""):
        table.add_column(heading, justify="left" if heading in ("size", "") else "right")
    for size, depth, best in optima:
        numbers = (f"{depth:g}", f"{best.lr:.4g}", _interval(best), f"{fit.predict(depth):.4g}")
        table.add_row(size_text(size), *numbers, "at the edge" if best.at_edge else "")
    interval = fit.exponent_interval
    spread = "no interval" if interval is None else f"95% {interval[0]:.3f} to {interval[1]:.3f}"
    line = f"lr ~ depth^{fit.exponent:.3f} ({spread}), r^2 = {fit.r_squared:.3f}"
    return Group(Text(line, style="bold"), table)


def progress_text(progress: Progress) -> str:
    """One line on the size that is searched: where the minimum is enclosed.

    Args:
        progress: State of the search.

    Returns:
        The line.
    """
    low, high = ("?" if end is None else f"{end:.3g}" for end in progress.bracket)
    best = (
        ""
        if progress.lowest is None
        else f"  lowest {progress.lowest[1]:.4g} at {progress.lowest[0]:.3g}"
    )
    return f"{size_text(progress.size)}  {low} to {high}{best}"
