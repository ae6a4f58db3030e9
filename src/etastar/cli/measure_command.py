"""`etastar measure`."""

from __future__ import annotations

from typing import Annotated

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result
from etastar.errors import ModelSpecError

__all__ = ["measure"]


@app.command()
@clear_errors
def measure(
    model: options.Model,
    data: options.Data,
    optimizer: options.Optimizer,
    sizes: options.SizeAxes = [],  # noqa: B006  typer reads the default, nobody writes to it
    vary: options.Vary = [],  # noqa: B006
    batch: options.BatchSize = 64,
    seeds: options.NumSeeds = 3,
    pre_activations: Annotated[
        str, typer.Option("--pre-activations", help="layers, hidden or stream.")
    ] = "stream",
    arg: options.Args = [],  # noqa: B006
    data_arg: options.DataArgs = [],  # noqa: B006
    momentum: options.Momentum = 0.0,
    weight_decay: options.WeightDecay = 0.0,
    init: options.Init = None,
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Maximal-update learning rate from one step at initialization; of sizes, its exponent."""
    from etastar.optimizers import OPTIMIZERS
    from etastar.sources.measuring import measure_named
    from etastar.sources.recipe_spec import RecipeSpec, named_recipe
    from etastar.sources.settings import parse_settings
    from etastar.sources.sweeping import parse_sizes

    is_shared = OPTIMIZERS[optimizer].fallback is not None
    if is_shared and (momentum or weight_decay):
        raise ModelSpecError(
            f"momentum={momentum}, weight_decay={weight_decay} for {optimizer}",
            "Muon and AdamW as PyTorch sets them",
            "leave both out",
        )
    spec = RecipeSpec(
        model,
        data,
        "adamw" if is_shared else optimizer,
        settings=parse_settings(arg),
        data_options=parse_settings(data_arg),
        momentum=momentum,
        weight_decay=weight_decay,
        init=init,
        num_steps=1,
        batch_size=batch,
    )
    report = measure_named(
        named_recipe(spec),
        parse_sizes(sizes, vary) if sizes or vary else (),
        optimizer=optimizer if is_shared else None,
        seeds=seeds,
        pre_activations=pre_activations,
    )
    print_result(as_json, report)
