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
from typing import Annotated, Any, NoReturn

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
    """Exit code 2 and one message for an error of ours; a traceback only with --debug."""

    @wraps(command)
    def wrapped(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, debug=debug, **kwargs)
        except EtastarError as error:
            if debug:
                raise
            _fail(error)

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
