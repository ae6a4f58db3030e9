"""`etastar figure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working
from etastar.cli.report_command import FileWritten

__all__ = ["draw"]


@app.command("figure")
@clear_errors
def draw(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A plan file, JSON that a command printed, or a sweep's store.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="In .svg, .pdf or .png.")] = Path(
        "figure.svg"
    ),
    name: options.StoreName = "sweep",
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Draw the charts of results for a paper, by Matplotlib."""
    with working("loading PyTorch"):
        from etastar.report import save_figure
        from etastar.report.sections import sections_of

    sections = [section for text in sources for section in sections_of(text, name=name)]
    save_figure(output, *sections)
    titles = tuple(section.title for section in sections)
    print_result(as_json, FileWritten(str(output), output.stat().st_size, titles))
