"""The application that commands join, how errors end one, and how a result is printed."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, Final, NoReturn

import typer

from etastar import __version__
from etastar.errors import EtastarError, EtastarWarning, cause_of

app = typer.Typer(
    name="etastar",
    help="Tune the learning rate on a small network, train the big one without tuning again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes 0.2 s to lay the options of a command out
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"etastar {__version__}\n")
        raise typer.Exit


@app.callback()
def _application(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """What stands before the command."""


def clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Exit code 2 and one message for whatever goes wrong, 130 for Ctrl-C, 143 for SIGTERM.

    A command calls code of others: a model that exits, or raises what is no `Exception`, ends it
    like any other bad input. Exit code 1 is a command's own and means that a check failed.
    A traceback is shown only with --debug.
    """

    @wraps(command)
    def wrapped(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, debug=debug, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            by, code = ("SIGTERM", 143) if signal.SIGTERM in _RECEIVED else ("Ctrl-C", 130)
            _RECEIVED.clear()
            typer.echo(f"stopped by {by}; what a store has is kept", err=True)
            raise typer.Exit(code) from None
        except BaseException as error:
            _fail(error, debug=debug)

    return wrapped


_RECEIVED: Final[set[int]] = set()
"""Signals that end the command. A class of exception would not do: Ray raises its own instead."""


def end_on_sigterm() -> None:
    """Let SIGTERM, from now on, end a command in the way of Ctrl-C, unless it is ignored."""

    def end(number: int, _: object) -> NoReturn:
        _RECEIVED.add(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)


def _fail(error: BaseException, *, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        error = EtastarError(cause_of(error), "room for the output", "make room for it")
    elif not isinstance(error, EtastarError):
        error = EtastarError(
            cause_of(error),
            "a model, data and settings with which the command runs to its end",
            "check the code of the model and the settings; --debug shows where it arose",
        )
    typer.echo(f"error\n{error}", err=True)
    raise typer.Exit(2) from None


def plain_warnings() -> None:
    """Show warnings of ours, from now on, as a message and not as a line of code."""
    usual = warnings.formatwarning

    def shown(message: Any, category: type[Warning], *place: Any, **line: Any) -> str:
        if issubclass(category, EtastarWarning):
            return f"warning\n{message}\n"
        return usual(message, category, *place, **line)

    warnings.formatwarning = shown


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Say at once, on standard error, what takes a while; on a terminal with a running clock.

    Yields:
        What to call with how far it is, which is shown on a terminal.
    """
    if not sys.stderr.isatty():
        typer.echo(f"{text} ...", err=True)
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(text, total=None)
        yield lambda more: shown.update(task, description=f"{text}: {more}")


_LEAST_WIDTH: Final = 80
"""Columns that a result is laid out for: a narrower terminal breaks lines, and cuts no number."""


def print_result(as_json: bool, result: Any) -> None:
    """Print a result on standard output, as JSON or as it shows itself."""
    if as_json:
        sys.stdout.write(json.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n")
    else:
        from rich.console import Console

        width = max(Console().width, _LEAST_WIDTH)
        Console(width=width).print(result)


def main() -> None:
    """Entry point of the command `etastar`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    plain_warnings()
    end_on_sigterm()
    app()
