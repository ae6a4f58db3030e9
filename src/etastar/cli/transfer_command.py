"""`etastar transfer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working
from etastar.errors import ModelSpecError

if TYPE_CHECKING:
    from etastar.sources.libraries import GivenInputs
    from etastar.transfer import Measure

_MORE = "; batch=N and steps=N are its training's."
_TRAINING = {"batch": "batch_size", "steps": "num_steps"}
_DECIDED = "base lr arg data init weight_decay aux_lr no_decay data_arg batch"
"""Options that a sweep's store decides itself."""


@app.command()
@clear_errors
def transfer(
    context: typer.Context,
    model: options.Model,
    target: Annotated[
        str,
        typer.Option(
            "--target", metavar="K=V,...", help=f"Settings of the network to train{_MORE}"
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="K=V,...", help=f"Settings of the tuned network{_MORE}"),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate tuned at the base.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STORE", help="A sweep's store: its optima for --base and --lr."
        ),
    ] = None,
    name: options.StoreName = "sweep",
    optimizer: options.OptimizerOfModel = None,
    law: options.DepthLaws = ["auto"],  # noqa: B006
    arg: options.Args = [],  # noqa: B006
    inputs: options.Inputs = [],  # noqa: B006
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", help="Weight decay at the base.")
    ] = None,
    no_decay: Annotated[
        list[str],
        typer.Option(
            "--no-decay",
            metavar="ROLE|PATTERN",
            help='Parameters without decay, repeatable; "none" for all with. [default: bias, norm]',
            show_default=False,
        ),
    ] = [],  # noqa: B006
    aux_lr: Annotated[
        float | None, typer.Option("--aux-lr", help="With muon: the rate of its AdamW.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Data set to measure the criterion on, for any law."),
    ] = None,
    data_arg: options.DataArgs = [],  # noqa: B006
    batch: options.BatchOption = 64,
    init: options.Init = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the plan to this JSON file.")
    ] = None,
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Carry a learning rate tuned at a base size to every parameter of a target size."""
    with working("loading PyTorch"):
        from etastar.sources.model_spec import parse_inputs, parse_settings, split_settings
        from etastar.sources.stored_optima import read_store, stored_bases
        from etastar.transfer import Target, Tuned, plan_transfer

    given, goal = parse_inputs(inputs), parse_settings(split_settings(target))
    trained = _training(goal)
    bases: Any
    measure = None
    if store is not None:
        if given_too := options.given_of(context, _DECIDED):
            raise ModelSpecError(
                f"--from with {given_too}", "one of them", f"leave {given_too} out"
            )
        with working(f"reading the store, and {model} of its sizes"):
            read = read_store(store, name=name)
            bases, network, kind = stored_bases(
                read, goal, model=model, optimizer=optimizer, inputs=given
            )
        network = replace(network, **trained)
    elif base is None or lr is None or optimizer is None:
        of_the_base = {"--base": base, "--lr": lr, "--optimizer": optimizer}
        missing = ", ".join(key for key, value in of_the_base.items() if value is None)
        raise ModelSpecError(
            f"transfer without {missing}",
            "--base, --lr and --optimizer of a tuned network, or --from a sweep's store",
            f"give {missing}, or --from STORE",
        )
    else:
        every = [parse_settings([*arg, *split_settings(size)]) for size in (base, target)]
        tuned_with, _ = map(_training, every)
        with working(f"tracing {model} as it was tuned and as it will be trained"):
            (tuned, network), measure = _networks(context, every, given)
        off = () if no_decay == ["none"] else tuple(no_decay) or None
        bases = Tuned(
            tuned, lr, weight_decay=weight_decay, no_decay=off, aux_lr=aux_lr, **tuned_with
        )
        network, kind = Target(network, **trained), optimizer
    with working("planning" if measure is None else "measuring and planning"):
        plan = plan_transfer(
            bases,
            network,
            optimizer=kind,
            law=law,
            init="stabilized" if init == "all" and "auto" in law else "any",
            measure=measure,
        )
    if save is not None:
        plan.save(save)
    print_result(as_json, plan)


def _require_no_data(context: typer.Context) -> None:
    """Refuse what would be dropped where there is no data set."""
    from etastar.sources.recipe_spec import InitName
    from etastar.typed import require_type

    init = context.params["init"]
    require_type("--init", init or "all", InitName)
    # networks with 1/K on their last weights are made with data
    if given := options.given_of(context, "data_arg batch" + " init" * (init == "last")):
        raise ModelSpecError(
            f"{given} without --data",
            "a data set that the criterion is measured on",
            "give --data, or leave it out",
        )


def _training(settings: dict[str, Any]) -> dict[str, Any]:
    """Batch size and steps out of a network's settings, by the names that `Tuned` has."""
    return {name: settings.pop(word) for word, name in _TRAINING.items() if word in settings}


def _networks(
    context: typer.Context, sizes: Sequence[Mapping[str, Any]], given: GivenInputs | None
) -> tuple[Any, Measure | None]:
    """Base and target, and with data what to measure the criterion on."""
    from etastar.laws import get_laws, residual_rule
    from etastar.sources.measuring import measurable
    from etastar.sources.model_spec import capture_spec, parse_settings
    from etastar.sources.recipe_spec import RecipeSpec
    from etastar.transfer import NAMED_LAWS

    chosen = context.params
    model, law = chosen["model"], chosen["law"]
    if chosen["data"] is None:
        _require_no_data(context)
        return [capture_spec(model, dict(size), inputs=given) for size in sizes], None
    if given is not None:
        raise ModelSpecError("--input with --data", "one of them", "leave --input out")
    needed = "own" if "auto" in law else residual_rule(get_laws(law, known=NAMED_LAWS))
    spec = RecipeSpec(
        model,
        chosen["data"],
        "sgd",  # the plan makes its own
        data_options=parse_settings(chosen["data_arg"]),
        init=chosen["init"] or needed,
        num_steps=1,
        batch_size=chosen["batch"],
    )
    return measurable(spec, sizes)
