"""The command line: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer
from rich.console import Console, RenderableType

from etastar.errors import EtastarError

__all__ = ["app", "main"]

app = typer.Typer(
    name="etastar",
    help="Tune the learning rate on a small network, train the big one without tuning again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_FORMS = (
    "zoo:NAME, hf:CLASSNAME, timm:NAME, torchvision:NAME, package.module:factory or "
    "path/file.py:factory."
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help=_FORMS, show_default=False)]
Args = Annotated[
    list[str], typer.Option("--arg", metavar="K=V", help="A setting of the model; repeatable.")
]
Inputs = Annotated[
    list[str],
    typer.Option("--input", metavar="[NAME=]SHAPE[:DTYPE]", help="An example input; repeatable."),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class _Optimizer(str, Enum):
    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"
    muon = "muon"


def _fail(error: EtastarError) -> NoReturn:
    Console(stderr=True).print(f"error\n{error}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2) from None


def _clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Exit code 2 and one message for an error of ours, 130 for Ctrl-C.

    A traceback is shown only with --debug.
    """

    @wraps(command)
    def wrapped(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, debug=debug, **kwargs)
        except EtastarError as error:
            if debug:
                raise
            _fail(error)
        except KeyboardInterrupt:
            Console(stderr=True).print("stopped by Ctrl-C; what a store has is kept")
            raise typer.Exit(130) from None

    return wrapped


def _print(as_json: bool, data: Any, table: Callable[[], RenderableType]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
    else:
        Console().print(table())


def _given_inputs(texts: list[str]) -> Any:
    from etastar.integrations.settings import parse_inputs

    return parse_inputs(texts) if texts else None


@app.command()
@_clear_errors
def depth(
    model: Model,
    arg: Args = [],  # noqa: B006  typer reads the default, nobody writes to it
    inputs: Inputs = [],  # noqa: B006
    source: Annotated[
        list[str], typer.Option("--source", help="An input that paths start at; repeatable.")
    ] = [],  # noqa: B006
    output: Annotated[
        list[str], typer.Option("--output", help="An output that paths end at; repeatable.")
    ] = [],  # noqa: B006
    as_json: AsJSON = False,
    debug: Debug = False,
) -> None:
    """Effective depth of a model: fewest weight layers and residual additions on a path."""
    from etastar.graph.effective_depth import effective_depth
    from etastar.integrations.model_spec import capture_spec
    from etastar.integrations.settings import parse_settings
    from etastar.report.depth_table import depth_table

    graph = capture_spec(model, parse_settings(arg), inputs=_given_inputs(inputs))
    report = effective_depth(graph, sources=source or None, outputs=output or None)
    _print(as_json, report.as_dict(), lambda: depth_table(report))


@app.command()
@_clear_errors
def transfer(
    model: Model,
    base: Annotated[
        str, typer.Option("--base", metavar="K=V,...", help="Settings of the tuned network.")
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="K=V,...", help="Settings of the network to train.")
    ],
    lr: Annotated[float, typer.Option("--lr", help="Learning rate tuned at the base.")],
    optimizer: Annotated[_Optimizer, typer.Option("--optimizer", help="Of both networks.")],
    law: Annotated[
        list[str], typer.Option("--law", metavar="NAME", help="Depth law; repeatable.")
    ] = ["effective-depth"],  # noqa: B006
    arg: Args = [],  # noqa: B006
    inputs: Inputs = [],  # noqa: B006
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", help="Weight decay at the base.")
    ] = None,
    aux_lr: Annotated[
        float | None, typer.Option("--aux-lr", help="With muon: the rate of its AdamW.")
    ] = None,
    allow_recurrent: Annotated[
        bool, typer.Option("--allow-recurrent", help="Transfer although no law covers it.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the plan to this JSON file.")
    ] = None,
    as_json: AsJSON = False,
    debug: Debug = False,
) -> None:
    """Carry a learning rate tuned at a base size to every parameter of a target size."""
    from etastar.integrations.model_spec import capture_spec
    from etastar.integrations.settings import parse_settings, split_settings
    from etastar.report.plan_summary import plan_summary
    from etastar.transfer import plan_transfer

    given = _given_inputs(inputs)
    graphs = [
        capture_spec(model, parse_settings([*arg, *split_settings(size)]), inputs=given)
        for size in (base, target)
    ]
    plan = plan_transfer(
        *graphs,
        lr=lr,
        optimizer=optimizer.value,
        law=law,
        weight_decay=weight_decay,
        aux_lr=aux_lr,
        allow_recurrent=allow_recurrent,
    )
    if save is not None:
        plan.save(save)
    _print(as_json, plan_summary(plan), lambda: plan)


@app.command()
@_clear_errors
def demo(as_json: AsJSON = False, debug: Debug = False) -> None:
    """The main job on real data: tune on a shallow network, train one six times deeper."""
    from etastar.experiments.demo import run_demo
    from etastar.report.demo_table import demo_table

    with _progress() as on_progress:
        result = run_demo(on_progress=on_progress)
    _print(as_json, result.as_dict(), lambda: demo_table(result))


@app.command()
@_clear_errors
def sweep(
    model: Model,
    sizes: Annotated[
        list[str], typer.Option("--sizes", metavar="NAME=N,N,...", help="Sizes; repeatable.")
    ],
    data: Annotated[str, typer.Option("--data", help="Data set: digits, stdlib-text, hf:NAME ...")],
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd, adam or adamw.")],
    lr: Annotated[
        float, typer.Option("--lr", help="Where the search starts at the first size.")
    ] = 0.01,
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
        str | None, typer.Option("--storage", help="Journal file or database URL to continue from.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Of the experiment in the store.")] = "sweep",
    as_json: AsJSON = False,
    debug: Debug = False,
) -> None:
    """Find the optimal learning rate of each size with few steps; the same command goes on."""
    from etastar.integrations.experiment import named_experiment
    from etastar.integrations.settings import parse_settings
    from etastar.integrations.sweeping import parse_sizes, size_depths
    from etastar.report.sweep_table import sweep_table
    from etastar.sweep.executors.registry import get_executor
    from etastar.sweep.search.registry import get_search
    from etastar.sweep.space import Budget
    from etastar.sweep.study import run_sweep

    start = {"start": lr} if search == "bracket" else {}
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
    with _sweep_progress() as on_progress:
        result = run_sweep(
            experiment,
            grid,
            search=get_search(search, **start, **parse_settings(search_option)),
            seeds=range(seeds),
            executor=get_executor(executor, **parse_settings(executor_option)),
            storage=storage,
            name=name,
            depths=size_depths(model, settings, grid),
            on_progress=on_progress,
        )
    _print(as_json, result.as_dict(), lambda: sweep_table(result))


@app.command()
@_clear_errors
def fit(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Journal file or database URL.")],
    name: Annotated[str, typer.Option("--name", help="Of the experiment in the store.")] = "sweep",
    as_json: AsJSON = False,
    debug: Debug = False,
) -> None:
    """Fit a power law in effective depth to the optima of a sweep."""
    from etastar.integrations.sweeping import fit_store
    from etastar.report.sweep_table import fit_table

    found = fit_store(store, name=name)
    _print(as_json, found.as_dict(), lambda: fit_table(found.fit, found.optima))


@contextmanager
def _sweep_progress() -> Iterator[Callable[[Any], None]]:
    """One live line per size on standard error, with the present bracket."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from etastar.report.sweep_table import progress_text

    columns = (SpinnerColumn(finished_text="-"), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as lines:
        tasks: dict[Any, Any] = {}

        def show(progress: Any) -> None:
            task = tasks.setdefault(progress.size, None)
            if task is None:
                task = tasks[progress.size] = lines.add_task("", total=1)
            text = (
                f"{progress_text(progress)}  {progress.num_finished} runs, {progress.steps} steps"
            )
            lines.update(task, description=text, completed=int(progress.done))

        yield show


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on standard error, one per stage, so that standard output holds the result alone."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield advance


def main() -> None:
    """Entry point of the command `etastar`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()
