"""`etastar depth`."""

from __future__ import annotations

from etastar.cli import options
from etastar.cli.application import app, clear_errors, print_result, working


@app.command()
@clear_errors
def depth(
    model: options.Model,
    arg: options.Args = [],  # noqa: B006  typer reads the default, nobody writes to it
    inputs: options.Inputs = [],  # noqa: B006
    as_json: options.AsJSON = False,
    debug: options.Debug = False,
) -> None:
    """Effective depth of a model: fewest weight layers and residual additions on a path."""
    with working("loading PyTorch"):
        from etastar.sources.model_spec import capture_spec, parse_inputs, parse_settings

    settings, given = parse_settings(arg), parse_inputs(inputs)
    with working(f"tracing {model}"):
        report = capture_spec(model, settings, inputs=given).depth()
    print_result(as_json, report)
