"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

__all__ = ["Args", "AsJSON", "Debug", "Inputs", "Model", "OptimizerName", "given_inputs"]

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


class OptimizerName(str, Enum):
    """Optimizers that the width rule knows."""

    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"
    muon = "muon"


def given_inputs(texts: list[str]) -> Any:
    """Example inputs of `--input`.

    Args:
        texts: As they were given.

    Returns:
        Positional and keyword inputs; None where none was given.
    """
    from etastar.sources.settings import parse_inputs

    return parse_inputs(texts) if texts else None
