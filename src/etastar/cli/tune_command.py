"""`etastar tune`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working
from etastar.cli.sweep_command import journal_name, local_executor, progress_lines

if TYPE_CHECKING:
    from etastar.sweep.tune_result import TuneProgress


@app.command("tune")
@clear_errors
def tune_model(
    context: typer.Context,
    model: options.ModelOrRecipe,
    bases: Annotated[
        list[str],
        typer.Option(
            "--bases", metavar="NAME=N,N,...", help="Sizes to tune; repeated, every combination."
        ),
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="NAME=N,...", help="Size of the network to train.")
    ],
    data: options.DataOfModel = None,
    optimizer: options.OptimizerOfModel = None,
    precision: Annotated[
        float,
        typer.Option("--precision", help="Enough: the rate's interval reaches by this factor."),
    ] = 1.5,
    budget: Annotated[
        float, typer.Option("--budget", help="Most to spend, as a share of one target run.")
    ] = 0.05,
    law: options.DepthLaws = ["auto"],  # noqa: B006  typer reads the default, nobody writes to it
    lr: options.Start = None,
    steps: options.Steps = 100,
    batch: options.BatchOption = 64,
    seeds: options.NumSeeds = 2,
    objective: options.RunLoss = "mean",
    arg: options.Args = [],  # noqa: B006
    data_arg: options.DataArgs = [],  # noqa: B006
    momentum: options.Momentum = 0.0,
    weight_decay: options.WeightDecay = 0.0,
    init: Annotated[
        str, typer.Option("--init", help="own: the model's own; or residual rule all, last, none.")
    ] = "own",
    workers: options.Workers = 0,
    device: options.Device = "cpu",
    run_timeout: options.RunTimeout = None,
    storage: options.Storage = None,
    name: options.StoreName = "sweep",
    live: options.Live = False,
    save: Annotated[Path, typer.Option("--save", help="Write the plan to this JSON file.")] = Path(
        "plan.json"
    ),
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """From a model, data and a target to a plan, by tuning as many small sizes as it takes."""
    with working("loading PyTorch"):
        from etastar.sources.model_spec import parse_settings, parse_sizes, split_settings
        from etastar.sweep.search import Bracket
        from etastar.sweep.tuning import tune
        from etastar.transfer.plan_file import require_place

    every, goal = parse_sizes(bases), parse_settings(split_settings(target))
    require_place(save)  # better said before the runs than after
    recipe = options.read_recipe(context, [*every, goal], objective=objective)
    store = storage or journal_name(recipe)
    with tuning_lines(store, live=live, name=name) as on_progress:
        result = tune(
            recipe,
            every,
            goal,
            law=law,
            precision=precision,
            budget=budget,
            on_progress=on_progress,
            search=Bracket(start=lr),
            seeds=seeds,
            storage=store,
            workers=local_executor(workers, device, run_timeout),
            name=name,
        )
    result.plan.save(save)
    print_result(as_json, result)
    typer.echo(f"plan written to {save}", err=True)


@contextmanager
def tuning_lines(
    store: str, *, live: bool = False, name: str = "sweep"
) -> Iterator[Callable[[TuneProgress], None]]:
    """As `progress_lines`, with the cost so far and about how long it still takes.

    The time is that of the runs of this call, stretched to the cost that is expected if every size
    is needed that fits the budget; a narrow interval ends it earlier.
    """
    from etastar.formatting import percent

    began, before = time.monotonic(), -1.0
    with progress_lines(store, live=live, name=name) as show:

        def show_cost(progress: TuneProgress) -> None:
            nonlocal before
            before = progress.cost if before < 0 else before
            line = f"spent {percent(progress.cost)} of one target run"
            if progress.cost > before and not progress.sweep.done:
                pace = (time.monotonic() - began) / (progress.cost - before)
                left = pace * max(0.0, progress.expected - progress.cost)
                line += f", at most about {_duration(left)} left"
            show(progress.sweep, line)

        yield show_cost


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes}:{rest:02d} min"
