"""`etastar check`."""

from __future__ import annotations

from typing import Annotated

import typer

from etastar.cli.application import app, clear_errors, print_result
from etastar.cli.options import Args, AsJSON, Debug, Model

__all__ = ["check"]


@app.command()
@clear_errors
def check(
    model: Model,
    data: Annotated[str, typer.Option("--data", help="Data set: digits, stdlib-text, hf:NAME ...")],
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd, adam or adamw.")],
    sizes: Annotated[
        list[str],
        typer.Option("--sizes", metavar="NAME=N,N,...", help="Sizes, every combination."),
    ] = [],  # noqa: B006  typer reads the default, nobody writes to it
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary", metavar="NAME=N,N,...", help="Sizes, one setting changed at a time."
        ),
    ] = [],  # noqa: B006
    lr: Annotated[float, typer.Option("--lr", help="Learning rate at the base.")] = 1e-3,
    plan: Annotated[
        list[str],
        typer.Option(
            "--plan",
            "--law",
            metavar="RULE",
            help="What each size's plan follows: mup for width, a law for depth; repeatable. "
            "Without, one rate for all sizes.",
        ),
    ] = [],  # noqa: B006
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            help="Residual rule all, last or none; own: the model's own. By default none with a "
            "law that brings a branch multiplier, else all.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Optimizer steps.")] = 3,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds 0, 1, ... that are used.")] = 3,
    batch: Annotated[int, typer.Option("--batch", help="Examples in the batch.")] = 64,
    momentum: Annotated[float, typer.Option("--momentum", help="Of sgd.")] = 0.0,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = 0.0,
    arg: Args = [],  # noqa: B006
    data_arg: Annotated[
        list[str], typer.Option("--data-arg", metavar="K=V", help="Of the data set; repeatable.")
    ] = [],  # noqa: B006
    as_json: AsJSON = False,
    debug: Debug = False,
) -> None:
    """Whether pre-activations and their changes keep their size; exit code 1 where they do not."""
    from etastar.sources.checking import named_check
    from etastar.sources.settings import parse_settings
    from etastar.sources.sweeping import parse_sizes

    report = named_check(
        model,
        settings=parse_settings(arg),
        sizes=parse_sizes(sizes, vary),
        data=data,
        data_options=parse_settings(data_arg),
        optimizer=optimizer,
        lr=lr,
        rules=plan,
        init=init,
        momentum=momentum,
        weight_decay=weight_decay,
        batch_size=batch,
        num_steps=steps,
        num_seeds=seeds,
    )
    print_result(as_json, report.as_dict(), lambda: report)
    if not report.passed:
        raise typer.Exit(1)
