"""`etastar measure`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working
from etastar.errors import ModelSpecError

if TYPE_CHECKING:
    from etastar.measure.seeds import SeedChoice


@app.command()
@clear_errors
def measure(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    optimizer: options.Optimizer,
    sizes: options.SizeAxes = [],  # noqa: B006  typer reads the default, nobody writes to it
    vary: options.Vary = [],  # noqa: B006
    batch: options.BatchOption = 64,
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds", help="5 (0 to 4), 7,8,9, or as many as --precision takes from a first: 100-."
        ),
    ] = "0-",
    precision: Annotated[
        float | None,
        typer.Option(
            help="Half width of the 95% interval of log eta*, of sizes of the exponent; 0.15."
        ),
    ] = None,
    pre_activations: Annotated[
        str, typer.Option("--pre-activations", help="stream, as the laws have it; hidden; layers.")
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
    with working("loading PyTorch"):
        from etastar.optimizers import OPTIMIZERS
        from etastar.sources.measuring import announced, measure_named
        from etastar.sources.model_spec import parse_sizes

    is_shared = OPTIMIZERS[optimizer].fallback is not None
    if is_shared and (momentum or weight_decay):
        raise ModelSpecError(
            f"momentum={momentum}, weight_decay={weight_decay} for {optimizer}",
            "Muon and AdamW as PyTorch sets them",
            "leave both out",
        )
    every, draws = parse_sizes(sizes, vary) if sizes or vary else (), _seeds(seeds, precision)
    recipe = options.read_recipe(context, every, optimizer="adamw" if is_shared else optimizer)
    with working(f"measuring {model}") as on_network:
        report = measure_named(
            announced(recipe, on_network),
            every,
            optimizer=optimizer if is_shared else None,
            seeds=draws,
            pre_activations=pre_activations,
        )
    print_result(as_json, report)


def _seeds(text: str, precision: float | None) -> SeedChoice:
    """The seeds that a text names, or how to find how many it takes."""
    from etastar.measure import UntilPrecise

    if text[-1:] == "-" and text[:-1].isdecimal():
        asked = UntilPrecise.precision if precision is None else precision
        return UntilPrecise(asked, first=int(text[:-1]))
    try:
        numbers = [int(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or precision is not None:
        raise ModelSpecError(
            f"--seeds {text}" + f" with --precision {precision}" * (precision is not None),
            "a number of seeds, 5; the seeds, 7,8,9; or the first of as many as it takes, 100-, to "
            "which alone a precision belongs",
            "change --seeds, or leave --precision out",
        )
    return numbers if "," in text else numbers[0]
