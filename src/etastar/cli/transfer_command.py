"""`etastar transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result

__all__ = ["transfer"]


@app.command()
@clear_errors
def transfer(
    model: options.Model,
    base: Annotated[
        str, typer.Option("--base", metavar="K=V,...", help="Settings of the tuned network.")
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="K=V,...", help="Settings of the network to train.")
    ],
    lr: Annotated[float, typer.Option("--lr", help="Learning rate tuned at the base.")],
    optimizer: options.Optimizer,
    law: Annotated[
        list[str], typer.Option("--law", metavar="NAME", help="Depth law; repeatable.")
    ] = ["auto"],  # noqa: B006
    arg: options.Args = [],  # noqa: B006
    inputs: options.Inputs = [],  # noqa: B006
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", help="Weight decay at the base.")
    ] = None,
    aux_lr: Annotated[
        float | None, typer.Option("--aux-lr", help="With muon: the rate of its AdamW.")
    ] = None,
    allow_recurrent: Annotated[
        bool, typer.Option("--allow-recurrent", help="Transfer although no law covers it.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Data set to measure the criterion on, for any law."),
    ] = None,
    data_arg: options.DataArgs = [],  # noqa: B006
    batch: options.BatchSize = 64,
    init: options.Init = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the plan to this JSON file.")
    ] = None,
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Carry a learning rate tuned at a base size to every parameter of a target size."""
    from etastar.errors import ModelSpecError
    from etastar.laws import get_laws, residual_rule
    from etastar.sources.measuring import measurable
    from etastar.sources.model_spec import capture_spec
    from etastar.sources.recipe_spec import RecipeSpec
    from etastar.sources.settings import parse_inputs, parse_settings, split_settings
    from etastar.transfer import NAMED_LAWS, Tuned, plan_transfer

    given = parse_inputs(inputs)
    sizes = [parse_settings([*arg, *split_settings(size)]) for size in (base, target)]
    measure = None
    networks: Any = [capture_spec(model, size, inputs=given) for size in sizes if data is None]
    if data is not None:
        if given is not None:
            raise ModelSpecError("--input with --data", "one of them", "leave --input out")
        spec = RecipeSpec(
            model,
            data,
            "sgd",  # the plan makes its own
            data_options=parse_settings(data_arg),
            init=init or residual_rule(get_laws(law, known=NAMED_LAWS)),
            num_steps=1,
            batch_size=batch,
        )
        networks, measure = measurable(spec, sizes)
    plan = plan_transfer(
        Tuned(networks[0], lr, weight_decay=weight_decay, aux_lr=aux_lr),
        networks[1],
        optimizer=optimizer,
        law=law,
        allow_recurrent=allow_recurrent,
        measure=measure,
    )
    if save is not None:
        plan.save(save)
    print_result(as_json, plan)
