"""`etastar report` and `etastar figure`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working
from etastar.formatting import Shown

_RESULTS = "A plan file, JSON that a command printed, a sweep's store"


@dataclass(frozen=True)
class FileWritten(Shown):
    """A file, and what is in it."""

    path: str
    num_bytes: int
    results: tuple[str, ...]

    def __rich__(self) -> str:
        return f"{self.path}: {', '.join(self.results)} ({self.num_bytes / 1e6:.1f} MB)"


@app.command()
@clear_errors
def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help=f"{_RESULTS}, or zoo:NAME, hf:NAME ...", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The page, one file that asks no network.")
    ] = Path("report.html"),
    title: Annotated[str, typer.Option("--title", help="Of the page.")] = "",
    name: options.StoreName = "sweep",
    arg: options.Args = [],  # noqa: B006  typer reads the default, nobody writes to it
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Write a page of plans, networks, measurements, checks, sweeps, fits and tunings."""
    with working("loading PyTorch"):
        from etastar.report import write_report
        from etastar.report.sections import sections_of
        from etastar.sources.model_spec import parse_settings
        from etastar.sweep.storage.connection import shown_location

    settings = parse_settings(arg)
    sections = [one for text in sources for one in sections_of(text, name=name, settings=settings)]
    command = shlex.join(["etastar", *map(shown_location, sys.argv[1:])])  # without passwords
    write_report(output, *sections, title=title, command=command)
    titles = tuple(section.title for section in sections)
    print_result(as_json, FileWritten(str(output), output.stat().st_size, titles))


@app.command("figure")
@clear_errors
def draw(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help=f"{_RESULTS}.", show_default=False),
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
