"""The application around the commands: its start, its version, how a command ends."""

import errno
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

import etastar
from etastar.cli import app
from etastar.cli.application import clear_errors, plain_warnings, print_result, working
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


# Each command is run up to its import of PyTorch, which is refused, in one process.
FIRST_LINES = """
import io, sys
from etastar.cli import main

class Refused:
    def find_spec(self, name, *place):
        if name == "torch":
            raise ImportError("too early")

sys.meta_path.insert(0, Refused())
for line in {lines!r}:
    sys.argv, sys.stderr = ["etastar", *line.split()], io.StringIO()
    try:
        main()
    except SystemExit:
        pass
    sys.stdout.write(sys.stderr.getvalue().replace("\\n", " ") + "\\n")
"""

PLACE = "zoo:mlp --data digits --optimizer sgd"
LINES = [
    "demo",
    "depth zoo:gpt",
    "transfer zoo:gpt --base depth=2 --target depth=4 --lr 1 --optimizer sgd",
    f"check {PLACE} --sizes depth=2,4",
    f"measure {PLACE}",
    f"sweep {PLACE} --sizes depth=2,4",
    f"tune {PLACE} --bases depth=2,4 --target depth=8",
    "fit runs.log",
    "report plan.json",
    "figure plan.json",
]


def run(*args):
    return CliRunner().invoke(app, list(args))


def test_help_and_version_come_without_torch():
    lines = [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)]
    code = HELP.format(lines=lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "transfer" in done.stdout


def test_every_command_says_what_it_does_before_pytorch_is_loaded():
    code = FIRST_LINES.format(lines=LINES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = dict(zip(LINES, done.stdout.splitlines(), strict=True))
    assert all("too early" in text for text in said.values()), said
    starts = {line: text.partition(" ...")[0] for line, text in said.items()}
    assert starts.pop("demo").startswith("training GPTs of 2 and 16 blocks")
    assert set(starts.values()) == {"loading PyTorch"}
    assert {line.split()[0] for line in LINES} == {*COMMANDS}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_it_says_how_far_it_is_and_how_long_it_took(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with working("measuring [zoo:mlp]") as say:
        say("network 3, depth=2")
    assert "measuring [zoo:mlp]: network 3, depth=2" in sys.stderr.getvalue()
    assert "0:00:00" in sys.stderr.getvalue()


def completed(tmp_path, *args, **variables):
    code = "import sys; sys.argv[0] = 'etastar'; from etastar.cli import main; main()"
    env = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**env, **variables}
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("etastar t", ["transfer", "tune"]),
        ("etastar sweep --optimizer ada", ["adam", "adamw", "adamax", "adafactor"]),
    ],
)
def test_the_shell_completes_commands_and_optimizers(tmp_path, line, words):
    place = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = completed(tmp_path, _ETASTAR_COMPLETE="complete_bash", **place)
    assert done.stdout.split() == words, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_is_shown_and_installed(tmp_path, shell):
    shown = completed(tmp_path, "--show-completion", shell)
    assert shown.returncode == 0, shown.stderr
    assert f"_ETASTAR_COMPLETE=complete_{shell}" in shown.stdout
    done = completed(tmp_path, "--install-completion", shell)
    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*etastar*") if path.is_file()]
    assert any("_ETASTAR_COMPLETE" in path.read_text() for path in written)


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


def test_a_full_disk_is_not_blamed_on_the_model(capsys):
    def command(*, debug):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(typer.Exit):
        clear_errors(command)(debug=False)
    shown = capsys.readouterr().err
    assert "No space left" in shown
    assert "make room" in shown
    assert "the model" not in shown


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


@pytest.mark.parametrize("columns", [1, 30, 60, 79])
def test_a_narrow_terminal_breaks_lines_and_cuts_nothing(monkeypatch, capsys, columns):
    table = Table("size", *(f"rate {k}" for k in range(4)), "flags")
    for column in table.columns[1:-1]:
        column.no_wrap = True
    table.add_row("num_layers=2", *(["0.0001234"] * 4), "edge")
    monkeypatch.setenv("COLUMNS", str(columns))
    print_result(False, table)
    shown = capsys.readouterr().out
    assert shown.count("0.0001234") == 4
    assert "edge" in shown
    assert "…" not in shown


def test_an_unknown_optimizer_lists_the_registry():
    size = ["--base", "depth=2", "--target", "depth=4", "--lr", "1"]
    result = run("transfer", "zoo:mlp", *size, "--optimizer", "lamb")
    assert result.exit_code == 2
    assert "'lamb' is not one of 'sgd', 'adam', 'adamw', 'muon', " in result.output


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
