"""Any text in any option of any command: taken or answered, never a traceback, never silence."""

from inspect import signature

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from etastar.cli import app

DATA = "--data digits --optimizer sgd --batch 4"
QUICK = f"{DATA} --steps 1 --seeds 1"
COMMANDS = {
    "check": f"zoo:mlp --sizes width=4,8 {QUICK}",
    "depth": "zoo:mlp",
    "figure": "plan.json -o out.svg",
    "fit": "nothing.log",
    "measure": f"zoo:mlp {DATA} --seeds 1",
    "report": "zoo:mlp -o out.html",
    "sweep": f"zoo:mlp --sizes depth=2 {QUICK} --lr 0.1 --max-trials 3 --storage runs.log",
    "transfer": "zoo:mlp --base depth=2 --target depth=4 --lr 0.1 --optimizer sgd",
    "tune": f"zoo:mlp --bases depth=2 --target depth=3 {QUICK} --storage tune.log",
}
# what runs for long with a value that is right, or opens a page that stays
LEFT_OUT = {"--workers", "--ray-address", "--live", "--help", "--debug"}
TEXTS = [
    *("", " ", "x", "-", "=", ",", "a=b", "a=", "=1", "a=1,a=2", "depth=3", "depth=2,3", "depth=x"),
    *("0", "-1", "1", "1.5", "nan", "inf", "-inf", "1e400", "9" * 40, "0x10", "1_0", "\u0663"),
    *("[red]x[/red]", "[/]", "\x1b[31m", "\n", "a" * 300, "zoo:", ":", "zoo:mlp:", "own.py:f"),
    *("/dev/null", "/dev/full", "/", ".", "nothing/x.json", "sqlite:///nothing/x.db", "adam"),
]


def options_of(command):
    found = typer.main.get_command(app).commands[command].params
    return [one for one in found if one.param_type_name == "option"]


PLACES = [
    (command, option.opts[0], option.is_flag)
    for command in COMMANDS
    for option in options_of(command)
    if not LEFT_OUT & set(option.opts)
]


def run(arguments):
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fuzz"))
        run(f"transfer {COMMANDS['transfer']} --save plan.json".split())
        yield


@given(place=st.sampled_from(PLACES), text=st.sampled_from(TEXTS))
def test_any_text_is_taken_or_answered(place, text):
    """2,000 of them: `--hypothesis-profile=many`."""
    command, option, is_flag = place
    result = run([command, *COMMANDS[command].split(), option, *([] if is_flag else [text])])
    verdicts = {0, 1, 2} if command == "check" else {0, 2}
    assert result.exit_code in verdicts, (result.output, result.exception)
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output.replace(text, "")
    assert result.output.strip()


def test_every_command_is_among_them():
    commands = typer.main.get_command(app).commands
    assert set(commands) - set(COMMANDS) == {"demo"}
    assert "debug" in signature(commands["depth"].callback).parameters
