"""`etastar sweep`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working
from etastar.errors import TrialError

if TYPE_CHECKING:
    from etastar.sweep.executors import Executor
    from etastar.sweep.recipe import Recipe


@app.command()
@clear_errors
def sweep(
    context: typer.Context,
    model: options.ModelOrRecipe,
    data: options.DataOfModel = None,
    optimizer: options.OptimizerOfModel = None,
    sizes: options.SizeAxes = [],  # noqa: B006  typer reads the default, nobody writes to it
    vary: options.Vary = [],  # noqa: B006
    lr: options.Start = None,
    max_trials: Annotated[
        int | None, typer.Option("--max-trials", help="Most runs of a size. [default: 40]")
    ] = None,
    lrs: Annotated[
        str | None,
        typer.Option("--lrs", metavar="LR,LR,...", help="Run these rates, without a search."),
    ] = None,
    steps: options.Steps = 100,
    batch: options.BatchOption = 64,
    seeds: options.NumSeeds = 2,
    objective: options.RunLoss = "mean",
    arg: options.Args = [],  # noqa: B006
    data_arg: options.DataArgs = [],  # noqa: B006
    momentum: options.Momentum = 0.0,
    weight_decay: options.WeightDecay = 0.0,
    init: options.Init = None,
    plan_law: Annotated[
        list[str],
        typer.Option(
            "--plan-law",
            metavar="LAW",
            help="Train every size under a plan of this law from --base.",
        ),
    ] = [],  # noqa: B006
    base: Annotated[
        str | None, typer.Option("--base", metavar="K=N,...", help="Size of the plan's base.")
    ] = None,
    workers: options.Workers = 0,
    device: options.Device = "cpu",
    run_timeout: options.RunTimeout = None,
    executor: Annotated[
        Literal["local", "ray"], typer.Option("--executor", help="This machine, or Ray.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", metavar="HOST:PORT", help="Cluster. [default: this machine]"),
    ] = None,
    ray_cpus: Annotated[float, typer.Option("--ray-cpus", help="CPUs of a run.")] = 1.0,
    ray_gpus: Annotated[float, typer.Option("--ray-gpus", help="GPUs of a run.")] = 0.0,
    storage: options.Storage = None,
    name: options.StoreName = "sweep",
    live: options.Live = False,
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Find the optimal learning rate of each size with few steps; the same command goes on."""
    with working("loading PyTorch"):
        from etastar.sources.model_spec import parse_settings, parse_sizes, split_settings
        from etastar.sweep.study import run_sweep

    every = parse_sizes(sizes, vary)
    recipe = options.read_recipe(
        context,
        every,
        objective=objective,
        plan_law=tuple(plan_law),
        base=parse_settings(split_settings(base or "")),
    )
    runner = _executor(executor, workers, device, (ray_address, ray_cpus, ray_gpus), run_timeout)
    store = storage or journal_name(recipe)
    with progress_lines(store, live=live, name=name) as on_progress:
        result = run_sweep(
            recipe,
            every,
            search=_search(lr, max_trials, lrs),
            seeds=seeds,
            storage=store,
            workers=runner,
            name=name,
            on_progress=on_progress,
        )
    print_result(as_json, result)
    if all(one.optimum is None for one in result.sizes):
        typer.echo(
            "no optimum at any size: every rate diverged, or was stopped by --run-timeout; search "
            "smaller rates, check that the loss is finite, or allow more time",
            err=True,
        )
        raise typer.Exit(1)


def _rate(text: str) -> float | str:
    """A number, or what is none as it was written: the grid refuses it."""
    try:
        return float(text)
    except ValueError:
        return text


def _search(lr: float | None, max_trials: int | None, lrs: str | None) -> Any:
    """A grid of the rates that are given, else a search; an option of the other is refused."""
    from etastar.sweep.search import Bracket, Grid

    given: dict[str, Any] = {"start": lr, "max_trials": max_trials}
    found = {name: value for name, value in given.items() if value is not None}
    if lrs is None:
        return Bracket(**found)
    if found:
        raise TrialError(
            "--lrs with --lr or --max-trials",
            "the rates of a grid, or where a search starts and ends",
            "leave --lrs out, or with it leave --lr and --max-trials out",
        )
    rates: Any = [_rate(text) for text in lrs.split(",")]
    return Grid(rates)


def _executor(
    name: str,
    workers: int,
    device: str,
    ray: tuple[str | None, float, float],
    run_timeout: float | None,
) -> Any:
    """Where to run; an option of another place is refused."""
    from etastar.sweep.executors import Ray

    if name == "ray" and not workers and device == "cpu":
        address, num_cpus, num_gpus = ray
        return Ray(address, num_cpus=num_cpus, num_gpus=num_gpus, run_timeout=run_timeout)
    if name == "ray" or ray != (None, 1.0, 0.0):
        raise TrialError(
            f"--executor {name} with options of another",
            "--ray-... with --executor ray; --workers and --device without it",
            "leave out what does not belong",
        )
    return local_executor(workers, device, run_timeout)


def journal_name(recipe: Recipe) -> str:
    """A journal file that is the same for the same recipe alone."""
    from etastar.sweep.recipe import recipe_settings

    text = json.dumps(sorted(recipe_settings(recipe).items()))
    return f"sweep-{hashlib.sha256(text.encode()).hexdigest()[:8]}.log"


def local_executor(workers: int, device: str, run_timeout: float | None) -> Executor:
    """What runs on this machine: in so many processes, or 0 for this one."""
    from etastar.sweep.executors import Processes, Sequential

    if workers:
        return Processes(workers, device=device, run_timeout=run_timeout)
    if run_timeout is not None:
        raise TrialError(
            f"--run-timeout {run_timeout:g} for runs in this process",
            "runs in processes of their own, which can be ended",
            "give --workers 1 or more, or leave --run-timeout out",
        )
    return Sequential(device=device)


@contextmanager
def progress_lines(
    store: str, *, live: bool = False, name: str = "sweep"
) -> Iterator[Callable[..., None]]:
    """One live line per size on standard error, with the present bracket; first, the store.

    Yields:
        What to call with every `Progress`, and with a line on all sizes if there is one.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from etastar.sweep.storage.connection import shown_location

    console = Console(stderr=True)
    kept = f"runs are kept in {shown_location(store)}"
    console.print(kept, markup=False, highlight=False, soft_wrap=True)
    columns = (SpinnerColumn(finished_text="-"), TextColumn("{task.description}"))
    with ExitStack() as stack:
        if live:
            from etastar.report.live_page import LivePage

            url = stack.enter_context(LivePage(store, name=name)).url
            console.print(f"live page: {url}", markup=False, highlight=False, soft_wrap=True)
        lines = stack.enter_context(Progress(*columns, TimeElapsedColumn(), console=console))
        tasks: dict[Any, Any] = {}

        said = ""

        def show(progress: Any, total: str = "") -> None:
            nonlocal said
            if progress.waiting and said != (said := progress.waiting.partition(";")[0]):
                console.print(progress.waiting, markup=False, highlight=False, soft_wrap=True)
            text = f"{progress}  {len(progress.records)} runs, {progress.steps} steps"
            text += f"  {progress.waiting}" if progress.waiting else ""
            for key, line in ((progress.size, text), ("total", total)):
                if line and key not in tasks:
                    tasks[key] = lines.add_task("", total=1)
                if line:
                    lines.update(tasks[key], description=line, completed=int(progress.done))

        yield show
