"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from etastar.optimizers.registry import OPTIMIZERS

__all__ = [
    "Args",
    "AsJSON",
    "BatchSize",
    "Data",
    "DataArgs",
    "Debug",
    "Init",
    "Inputs",
    "Model",
    "Momentum",
    "NumSeeds",
    "Optimizer",
    "SizeAxes",
    "StoreName",
    "Vary",
    "WeightDecay",
]

_FORMS = (
    "zoo:NAME, hf:CLASSNAME, timm:NAME, torchvision:NAME, package.module:factory or "
    "path/file.py:factory."
)


def _known_optimizer(name: str) -> str:
    if name not in OPTIMIZERS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(OPTIMIZERS)}; choose one of them")
    return name


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
Data = Annotated[str, typer.Option("--data", help="Data set: digits, stdlib-text, hf:NAME ...")]
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
Optimizer = Annotated[
    str,
    typer.Option("--optimizer", metavar="|".join(OPTIMIZERS), callback=_known_optimizer),
]
Momentum = Annotated[float, typer.Option("--momentum", help="Of sgd.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay")]
BatchSize = Annotated[int, typer.Option("--batch", help="Examples in a batch.")]
NumSeeds = Annotated[int, typer.Option("--seeds", help="Seeds 0, 1, ... that may be used.")]
StoreName = Annotated[str, typer.Option("--name", help="Of the sweep in the store.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
