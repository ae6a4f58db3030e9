"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from etastar.optimizers.registry import OPTIMIZERS

if TYPE_CHECKING:
    from etastar.sweep.recipe import Recipe

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
Init = Annotated[
    str | None,
    typer.Option(
        "--init",
        help="Residual rule all, last or none; own: the model's own. [default: what the laws need]",
    ),
]
_DATA: Any = typer.Option(
    "--data", help="digits, stdlib-text, hf:NAME ..., or your own: path/file.py:batches."
)
Data = Annotated[str, _DATA]
DataOfModel = Annotated[str | None, _DATA]
DataArgs = Annotated[
    list[str], typer.Option("--data-arg", metavar="K=V", help="Of the data set; repeatable.")
]
SizeAxes = Annotated[
    list[str],
    typer.Option("--sizes", metavar="NAME=N,N,...", help="Sizes; repeated, every combination."),
]
Vary = Annotated[
    list[str],
    typer.Option("--vary", metavar="NAME=N,N,...", help="Sizes, one setting varied at a time."),
]
_Known: Any = Literal[tuple(OPTIMIZERS)]
_OPTIMIZER: Any = typer.Option("--optimizer", metavar="|".join(OPTIMIZERS))
Optimizer = Annotated[_Known, _OPTIMIZER]
OptimizerOfModel = Annotated[_Known | None, _OPTIMIZER]
ModelOrRecipe = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help=f"{_FORMS} Without --data: path/file.py:recipe, a Recipe of your own.",
        show_default=False,
    ),
]
Momentum = Annotated[float, typer.Option("--momentum", help="Of sgd.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay")]
DepthLaws = Annotated[
    list[str], typer.Option("--law", metavar="NAME", help="Of depth, batch-size, ...; repeatable.")
]
BatchOption = Annotated[int, typer.Option("--batch", help="Examples in a batch.")]
NumSeeds = Annotated[int, typer.Option("--seeds", help="Seeds 0, 1, ... that may be used.")]
Start = Annotated[
    float | None,
    typer.Option("--lr", help="Where the search starts at the first size. [default: measured]"),
]
Steps = Annotated[int, typer.Option("--steps", help="Optimizer steps of a run.")]
RunLoss = Annotated[
    Literal["mean", "final", "validation"], typer.Option("--objective", help="Loss of a run.")
]
Workers = Annotated[int, typer.Option("--workers", help="Processes to run in; 0 for this one.")]
RunTimeout = Annotated[
    float | None,
    typer.Option("--run-timeout", metavar="SECONDS", help="End a run that takes longer: failed."),
]
Device = Annotated[str, typer.Option("--device", help="Where a local run trains.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar="ETASTAR_STORAGE",
        help="Journal file or database URL. [default: sweep-..., by the settings]",
    ),
]
StoreName = Annotated[str, typer.Option("--name", help="Of the sweep in the store.")]
Live = Annotated[
    bool, typer.Option("--live", help="Show the runs on a page at 127.0.0.1 while they are made.")
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

_OF_A_RECIPE = "optimizer data_arg momentum weight_decay init steps batch objective plan_law base"
"""Options that a recipe of one's own decides itself."""


def given_of(context: typer.Context, names: str) -> str:
    """Those of some options that were given, as they are written; "" for none."""
    sources = {name: context.get_parameter_source(name) for name in names.split()}
    given = [name for name, source in sources.items() if source and source.name != "DEFAULT"]
    return ", ".join(f"--{name.replace('_', '-')}" for name in given)


def read_recipe(context: typer.Context, sizes: Any, **more: Any) -> Recipe:
    """The recipe of a command at some sizes: of a model with data and optimizer, or one's own.

    Raises:
        ModelSpecError: A name or a setting is not accepted, or does not go with the others.
    """
    from etastar.errors import ModelSpecError
    from etastar.sources.model_spec import parse_settings
    from etastar.sources.own_code import own_recipe
    from etastar.sources.recipe_spec import RecipeSpec, named_recipe

    given = context.params
    if given["data"] is None:
        if shown := given_of(context, _OF_A_RECIPE):
            raise ModelSpecError(
                f"{given['model']} without --data, with {shown}",
                "--data and --optimizer with a model; none of them with a recipe of your own",
                f"give --data, or leave out {shown}, which the recipe decides",
            )
        return own_recipe(given["model"], parse_settings(given["arg"]))
    if given["optimizer"] is None:
        raise ModelSpecError(
            f"{given['model']} with --data and without --optimizer",
            f"one of: {', '.join(OPTIMIZERS)}",
            "give --optimizer",
        )
    fields = {
        "optimizer": given["optimizer"],
        "settings": parse_settings(given["arg"]),
        "data_options": parse_settings(given["data_arg"]),
        "momentum": given["momentum"],
        "weight_decay": given["weight_decay"],
        "init": given["init"],
        "num_steps": given.get("steps", 1),
        "batch_size": given["batch"],
    }
    spec = RecipeSpec(given["model"], given["data"], **{**fields, **more})
    spec.require_sizes(sizes)
    return named_recipe(spec)
