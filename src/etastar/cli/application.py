"""The application that commands join, how errors end one, and how a result is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import typer
from rich.console import Console, RenderableType

from etastar.errors import EtastarError

__all__ = ["app", "clear_errors", "print_result"]

app = typer.Typer(
    name="etastar",
    help="Tune the learning rate on a small network, train the big one without tuning again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _fail(error: EtastarError) -> NoReturn:
    Console(stderr=True).print(f"error\n{error}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2) from None


def clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Exit code 2 and one message for an error of ours, 130 for Ctrl-C.

    A traceback is shown only with --debug.
    """

    @wraps(command)
    def wrapped(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, debug=debug, **kwargs)
        except EtastarError as error:
            if debug:
                raise
            _fail(error)
        except KeyboardInterrupt:
            Console(stderr=True).print("stopped by Ctrl-C; what a store has is kept")
            raise typer.Exit(130) from None

    return wrapped


def print_result(as_json: bool, data: Any, table: Callable[[], RenderableType]) -> None:
    """JSON on standard output, or a table.

    Args:
        as_json: Whether JSON was asked for.
        data: What JSON holds.
        table: Makes the table.
    """
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
    else:
        Console().print(table())
