"""`etastar fit`."""

from __future__ import annotations

from typing import Annotated

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result

__all__ = ["fit"]


@app.command()
@clear_errors
def fit(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", envvar="ETASTAR_STORAGE", help="Journal file or database URL."
        ),
    ],
    name: options.StoreName = "sweep",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Take the depths of this model; its code is run. [default: the store's depths]",
        ),
    ] = None,
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Fit a power law in effective depth to the optima of a sweep."""
    from etastar.sources.sweeping import fit_store

    print_result(as_json, fit_store(store, name=name, model=model))
