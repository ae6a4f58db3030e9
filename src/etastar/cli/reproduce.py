"""`etastar reproduce`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from etastar.cli.application import app, clear_errors, print_result
from etastar.cli.options import AsJSON, Debug

__all__ = ["reproduce"]


@app.command()
@clear_errors
def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as resnet or transformer.")],
    scale: Annotated[
        str, typer.Option("--scale", help="smoke (seconds), cpu (minutes) or paper (a GPU).")
    ] = "cpu",
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Results: DIR/NAME/SCALE.")] = (
        "results"
    ),
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="Journal file or database URL; a journal in the results."),
    ] = None,
    executor: Annotated[
        str, typer.Option("--executor", help="sequential, processes, batched or ray.")
    ] = "sequential",
    executor_option: Annotated[
        list[str], typer.Option("--executor-option", metavar="K=V", help="Such as workers=2.")
    ] = [],  # noqa: B006  typer reads the default, nobody writes to it
    as_json: AsJSON = False,
    debug: Debug = False,
) -> None:
    """Run an experiment of the papers; the same command goes on where it was stopped."""
    from etastar.experiments.reproduce import reproduce as run
    from etastar.report.evidence_table import evidence_summary, evidence_table
    from etastar.sources.settings import parse_settings

    errors = Console(stderr=True)

    def show(family: str, progress: Any) -> None:
        if progress.done:
            line = f"{family}: {progress!s}, {progress.num_finished} runs"
            errors.print(line, markup=False, highlight=False, soft_wrap=True)

    found = run(
        name,
        scale=scale,
        out=out,
        storage=storage,
        executor=executor,
        executor_options=parse_settings(executor_option),
        on_progress=show,
    )
    data = evidence_summary(found.evidence, str(found.folder))
    print_result(as_json, data, lambda: evidence_table(found.evidence, str(found.folder)))
