"""`etastar measure`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from etastar.cli.application import app, clear_errors, print_result
from etastar.cli.options import Args, AsJSON, Debug, Model

__all__ = ["measure"]


@app.command()
@clear_errors
def measure(
    model: Model,
    data: Annotated[str, typer.Option("--data", help="Data set: digits, stdlib-text, hf:NAME ...")],
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd, adam or adamw.")],
    scan: Annotated[
        str | None, typer.Option("--scan", metavar="NAME=N,N,...", help="Sizes to scan over.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Examples in the batch.")] = 64,
    seeds: Annotated[int, typer.Option("--seeds", help="Initializations 0, 1, ...")] = 3,
    pre_activations: Annotated[
        str, typer.Option("--pre-activations", help="layers, hidden or stream.")
    ] = "layers",
    method: Annotated[
        str, typer.Option("--method", help="differences, forward or exact.")
    ] = "differences",
    c: Annotated[float, typer.Option("--c", help="Mean-square change that eta* makes.")] = 1.0,
    after: Annotated[int, typer.Option("--after", help="Real steps before the measured one.")] = 0,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Of those steps; left out: self-consistent.")
    ] = None,
    kappa: Annotated[
        float, typer.Option("--kappa", help="Rate of those steps over eta*, self-consistent.")
    ] = 0.5,
    arg: Args = [],  # noqa: B006
    data_arg: Annotated[
        list[str], typer.Option("--data-arg", metavar="K=V", help="Of the data set; repeatable.")
    ] = [],  # noqa: B006
    momentum: Annotated[float, typer.Option("--momentum", help="Of sgd.")] = 0.0,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = 0.0,
    init: Annotated[
        str, typer.Option("--init", help="Residual rule all, last or none; own: the model's own.")
    ] = "all",
    as_json: AsJSON = False,
    debug: Debug = False,
) -> None:
    """Maximal-update learning rate from one step at initialization; with --scan, its exponent."""
    from etastar.report.update_table import scan_table, update_table
    from etastar.sources.measuring import measure_named, scan_named
    from etastar.sources.recipe_spec import RecipeSpec, named_recipe
    from etastar.sources.settings import parse_settings

    settings = parse_settings(arg)
    spec = RecipeSpec(
        model,
        data,
        optimizer,
        settings=settings,
        data_options=parse_settings(data_arg),
        momentum=momentum,
        weight_decay=weight_decay,
        init=init,
        num_steps=after + 1,
        batch_size=batch,
    )
    recipe = named_recipe(spec)
    options: dict[str, Any] = {
        "seeds": range(seeds),
        "pre_activations": pre_activations,
        "method": method,
        "c": c,
        "after": after,
        "lr": lr,
        "kappa": kappa,
    }
    if scan is None:
        report = measure_named(recipe, **options)
        print_result(as_json, report.as_dict(), lambda: update_table(report))
        return
    found = scan_named(recipe, scan, model=model, settings=settings, **options)
    print_result(as_json, found.as_dict(), lambda: scan_table(found.scan, name=found.name))
