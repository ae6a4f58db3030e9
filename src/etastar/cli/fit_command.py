"""`etastar fit`."""

from __future__ import annotations

from typing import Annotated

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working


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
            help="Build the target of this model (or recipe), whose code is run. "
            "[default: the store's, if it is one of a package]",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME=N,...", help="Size to give the rate of."),
    ] = None,
    optimizer: options.OptimizerOfModel = None,
    law: options.DepthLaws = ["auto"],  # noqa: B006  typer reads the default, nobody writes to it
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Fit a power law in effective depth to the optima of a sweep; of a target, its rate."""
    with working("loading PyTorch"):
        from etastar.sources.model_spec import parse_settings, split_settings
        from etastar.sources.stored_optima import fit_store

    goal = None if target is None else parse_settings(split_settings(target))
    with working("reading the store and fitting"):
        found = fit_store(store, name=name, model=model, target=goal, optimizer=optimizer, law=law)
    print_result(as_json, found)
