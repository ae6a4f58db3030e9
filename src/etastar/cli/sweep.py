"""`etastar sweep`."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from etastar.cli.application import app, clear_errors, print_result
from etastar.cli.options import Args, AsJSON, Debug, Model
from etastar.cli.progress import sweep_progress
from etastar.errors import TrialError

__all__ = ["sweep"]


@app.command()
@clear_errors
def sweep(
    model: Model,
    sizes: Annotated[
        list[str], typer.Option("--sizes", metavar="NAME=N,N,...", help="Sizes; repeatable.")
    ],
    data: Annotated[str, typer.Option("--data", help="Data set: digits, stdlib-text, hf:NAME ...")],
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd, adam or adamw.")],
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Where bracket starts at the first size. [default: measured]"),
    ] = None,
    search: Annotated[str, typer.Option("--search", help="bracket, grid or optuna.")] = "bracket",
    search_option: Annotated[
        list[str], typer.Option("--search-option", metavar="K=V", help="Of the search; repeatable.")
    ] = [],  # noqa: B006
    steps: Annotated[int, typer.Option("--steps", help="Optimizer steps of a run.")] = 100,
    batch: Annotated[int, typer.Option("--batch", help="Examples in a batch.")] = 64,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds 0, 1, ... that may be used.")] = 2,
    objective: Annotated[
        str, typer.Option("--objective", help="Loss of a run: mean, final or validation.")
    ] = "mean",
    arg: Args = [],  # noqa: B006
    data_arg: Annotated[
        list[str], typer.Option("--data-arg", metavar="K=V", help="Of the data set; repeatable.")
    ] = [],  # noqa: B006
    momentum: Annotated[float, typer.Option("--momentum", help="Of sgd.")] = 0.0,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = 0.0,
    init: Annotated[
        str, typer.Option("--init", help="Residual rule all, last or none; own: the model's own.")
    ] = "all",
    executor: Annotated[
        str, typer.Option("--executor", help="sequential, processes, batched or ray.")
    ] = "sequential",
    executor_option: Annotated[
        list[str], typer.Option("--executor-option", metavar="K=V", help="Such as workers=2.")
    ] = [],  # noqa: B006
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", help="Journal file or database URL. [default: sweep-..., by the settings]"
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Of the experiment in the store.")] = "sweep",
    as_json: AsJSON = False,
    debug: Debug = False,
) -> None:
    """Find the optimal learning rate of each size with few steps; the same command goes on."""
    from etastar.report.sweep_table import sweep_table
    from etastar.sources.experiment import named_experiment
    from etastar.sources.settings import parse_settings
    from etastar.sources.sweeping import parse_sizes, size_depths
    from etastar.sweep.executors.registry import get_executor
    from etastar.sweep.search.registry import get_search
    from etastar.sweep.space import Budget
    from etastar.sweep.storage.opening import journal_name
    from etastar.sweep.study import experiment_settings, run_sweep

    if lr is not None and search != "bracket":
        raise TrialError(
            f"--lr {lr} with --search {search}",
            "--lr with --search bracket, which starts there",
            "leave --lr out; rates of other searches are a --search-option",
        )
    start = {} if lr is None else {"start": lr}
    grid, settings = parse_sizes(sizes), parse_settings(arg)
    experiment = named_experiment(
        model,
        settings=settings,
        data=data,
        data_options=parse_settings(data_arg),
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        init=init,
        budget=Budget(steps, batch, cast("Any", objective)),
    )
    store = storage or journal_name(experiment_settings(experiment))
    with sweep_progress(store) as on_progress:
        result = run_sweep(
            experiment,
            grid,
            search=get_search(search, **start, **parse_settings(search_option)),
            seeds=range(seeds),
            executor=get_executor(executor, **parse_settings(executor_option)),
            storage=store,
            name=name,
            depths=size_depths(model, settings, grid),
            on_progress=on_progress,
        )
    print_result(as_json, result.as_dict(), lambda: sweep_table(result))
    if all(one.optimum is None for one in result.sizes):
        typer.echo(
            "no optimum at any size: every rate diverged; search smaller rates, or check that the "
            "loss is finite",
            err=True,
        )
        raise typer.Exit(1)
