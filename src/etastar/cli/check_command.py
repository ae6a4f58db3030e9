"""`etastar check`."""

from __future__ import annotations

from typing import Annotated

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working


@app.command()
@clear_errors
def check(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    optimizer: options.Optimizer,
    sizes: options.SizeAxes = [],  # noqa: B006  typer reads the default, nobody writes to it
    vary: options.Vary = [],  # noqa: B006
    lr: Annotated[float, typer.Option("--lr", help="Learning rate at the first size.")] = 1e-3,
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
    init: options.Init = None,
    steps: Annotated[int, typer.Option("--steps", help="Optimizer steps.")] = 3,
    seeds: options.NumSeeds = 3,
    batch: options.BatchOption = 64,
    momentum: options.Momentum = 0.0,
    weight_decay: options.WeightDecay = 0.0,
    arg: options.Args = [],  # noqa: B006
    data_arg: options.DataArgs = [],  # noqa: B006
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Whether pre-activations and their changes keep their size; exit code 1 where they do not."""
    with working("loading PyTorch"):
        from etastar.sources.measuring import announced, check_named
        from etastar.sources.model_spec import parse_sizes

    every = parse_sizes(sizes, vary)
    recipe = options.read_recipe(
        context,
        every,
        plan_law=tuple(rule for rule in plan if rule != "mup") or ("constant",),
        plan_width="mup" if "mup" in plan else "none",
        base=every[0],
    )
    with working(f"checking {model}") as on_network:
        report = check_named(announced(recipe, on_network), every, lr=lr, seeds=seeds)
    print_result(as_json, report)
    if not report.passed:
        raise typer.Exit(1)
