"""The application around the commands: its start, its version, how a command ends."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import etastar
from etastar.cli import app
from etastar.cli.application import clear_errors, plain_warnings, print_result
from etastar.errors import EtastarWarning, ModelSpecError

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)

# The helps are printed in one process that never imports PyTorch.
HELP = """
import sys
from etastar.cli import main
for words in {lines!r}:
    sys.argv = ["etastar", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
    heavy = [name for name in ("torch", "numpy", "sklearn") if name in sys.modules]
    assert not heavy, (words, heavy)
"""


def run(*args):
    return CliRunner().invoke(app, list(args))


def test_help_and_version_come_without_torch():
    lines = [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)]
    code = HELP.format(lines=lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "transfer" in done.stdout


def test_python_m_etastar_is_the_command():
    command = [sys.executable, "-m", "etastar", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"etastar {etastar.__version__}\n"


def test_the_version_is_the_distributions():
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{etastar.__version__}"\n' in pyproject


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_gives_json_and_tracebacks(command):
    words = run(command, "--help").output.split()
    assert "--json" in words
    assert "--debug" in words


@pytest.mark.parametrize(
    "error",
    [SystemExit(0), SystemExit(1), GeneratorExit(), BaseException("odd"), ValueError("a\nb")],
    ids=repr,
)
def test_whatever_other_code_raises_ends_with_2_and_one_message(error, capsys):
    def command(*, debug):
        raise error

    for debug in (False, True):
        with pytest.raises(typer.Exit) as caught:
            clear_errors(command)(debug=debug)
        assert caught.value.exit_code == 2
        shown = capsys.readouterr().err
        assert ("Traceback" in shown) == debug
        assert shown.count("received: ") == shown.count("what to do: ") == 1
        assert f"received: {type(error).__name__}: " in shown


def test_a_command_may_end_with_a_code_of_its_own():
    def command(*, debug):
        raise typer.Exit(1)

    with pytest.raises(typer.Exit) as caught:
        clear_errors(command)()
    assert caught.value.exit_code == 1


def test_debug_shows_where_it_arose():
    result = run("depth", "zoo:nothing", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.output
    assert "in build" in result.output
    assert "ModelSpecError" in result.output


class Shown:
    """A result: it knows its JSON and how it looks."""

    def as_dict(self):
        return {"lr": 0.1}

    def __rich__(self):
        return "lr 0.1"


def test_a_result_prints_itself_or_its_json(capsys):
    print_result(True, Shown())
    assert json.loads(capsys.readouterr().out) == {"lr": 0.1}
    print_result(False, Shown())
    assert capsys.readouterr().out == "lr 0.1\n"


def test_an_unknown_optimizer_lists_the_registry():
    size = ["--base", "depth=2", "--target", "depth=4", "--lr", "1"]
    result = run("transfer", "zoo:mlp", *size, "--optimizer", "lion")
    assert result.exit_code == 2
    assert "'lion' is none of sgd, adam, adamw, muon" in result.output


def test_errors_of_ours_are_shown_whole(capsys):
    def command(*, debug):
        raise ModelSpecError("this", "that", "do")

    with pytest.raises(typer.Exit):
        clear_errors(command)()
    assert capsys.readouterr().err == "error\nreceived: this\nexpected: that\nwhat to do: do\n"


def test_a_warning_of_ours_is_a_message(monkeypatch):
    usual = warnings.formatwarning
    monkeypatch.setattr(warnings, "formatwarning", usual)  # put back afterwards
    plain_warnings()
    assert warnings.formatwarning(EtastarWarning("lost"), EtastarWarning, "a.py", 3) == (
        "warning\nlost\n"
    )
    other = (UserWarning("other"), UserWarning, "a.py", 3)
    assert warnings.formatwarning(*other, line="x = 1") == usual(*other, line="x = 1")
