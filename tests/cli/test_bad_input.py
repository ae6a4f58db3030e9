"""Bad input of the command line: exit code 2, one message, no traceback, never 0 or 1."""

import pytest
from typer.testing import CliRunner

from etastar.cli import app

FACTORIES = """
import sys
import torch
from torch import nn

class Odd(BaseException):
    pass

class Forward(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.function = function

    def forward(self, x):
        return self.layer(self.function(x.flatten(1)))

def raised(error):
    raise error

def leaves(depth=2): sys.exit(0)
def fails(depth=2): sys.exit(1)
def closes(depth=2): raise GeneratorExit
def odd(depth=2): raise Odd("not an exception")
def stops(depth=2): next(iter(()))
def interrupts(depth=2): raise KeyboardInterrupt
def leaves_in_forward(depth=2): return Forward(lambda x: sys.exit(0)), torch.zeros(2, 64)
def odd_in_forward(depth=2): return Forward(lambda x: raised(Odd("late"))), torch.zeros(2, 64)
def beside_a_tensor(depth=2): return Forward(lambda x: x), torch.zeros(2, 64)
def plain(depth=2): return Forward(lambda x: x)
"""

DATA = ["--data", "digits", "--optimizer", "sgd", "--batch", "8"]
SIZES = ["--base", "depth=2", "--target", "depth=4", "--lr", "1", "--optimizer", "sgd"]
GPT2 = ["hf:GPT2LMHeadModel", "--arg"]

BAD = {
    "a file that exits": (["depth", "EXIT:plain"], "could not be imported: SystemExit: 0"),
    "a factory that leaves": (["depth", "FILE:leaves"], "SystemExit: 0"),
    "a factory that fails": (["depth", "FILE:fails"], "SystemExit: 1"),
    "a factory that closes": (["depth", "FILE:closes"], "GeneratorExit"),
    "a factory that raises no Exception": (["depth", "FILE:odd"], "Odd: not an exception"),
    "a factory that stops": (["depth", "FILE:stops"], "StopIteration"),
    "a forward that leaves": (["depth", "FILE:leaves_in_forward"], "SystemExit: 0"),
    "a forward that raises no Exception": (["depth", "FILE:odd_in_forward"], "Odd: late"),
    "transfer of it": (["transfer", "FILE:leaves_in_forward", *SIZES], "SystemExit: 0"),
    "measure of it": (["measure", "FILE:leaves_in_forward", *DATA], "SystemExit: 0"),
    "heads that do not divide": (["depth", *GPT2, "n_head=7"], "ValueError: `embed_dim`"),
    "no width": (["depth", *GPT2, "n_embd=0"], "ZeroDivisionError"),
    "no positions": (["depth", *GPT2, "n_positions=0"], "n_positions=0"),
    "a width of the wrong type": (["depth", *GPT2, "n_embd=wide"], "n_embd"),
    "transfer to it": (
        ["transfer", "hf:GPT2LMHeadModel", "--base", "n_embd=128", *SIZES[2:]],
        "'n_embd': 128",
    ),
    "a width beyond 64 bits": (["depth", "zoo:mlp", "--arg", f"width={10**30}"], "below 2^63"),
    "a width beyond memory": (["depth", "zoo:mlp", "--arg", f"width={2**62}"], "overflowed"),
    "a shape beyond 64 bits": (["depth", "zoo:mlp", "--input", f"{10**20},2"], "Overflow"),
    "a size that is a setting": (
        ["check", "zoo:mlp", "--sizes", "width=8,16", *DATA, "--arg", "width=3"],
        "width as a size and with --arg",
    ),
    "an input twice": (["depth", "FILE:plain", *["--input", "x=2,64"] * 2], "input 'x' twice"),
    **{
        f"an input of {dtype}": (["depth", "zoo:mlp", "--input", f"2,64:{dtype}"], dtype)
        for dtype in (
            "float64",
            "int64",
            "bool",
            "complex64",
            "float8_e4m3fn",
            "qint8",
            "float4_e2m1fn_x2",
        )
    },
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "factories.py").write_text(FACTORIES)
    (folder / "exits.py").write_text("raise SystemExit(0)")
    return {"FILE": str(folder / "factories.py"), "EXIT": str(folder / "exits.py")}


def run(args, files):
    for word, path in files.items():
        args = [arg.replace(word, path) for arg in args]
    return CliRunner().invoke(app, args)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_it_exits_with_2_and_one_message(case, files):
    args, message = BAD[case]
    result = run(args, files)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert result.output.count("what to do: ") == 1
    assert "Traceback" not in result.output


def test_ctrl_c_in_a_factory_is_ctrl_c(files):
    assert run(["depth", "FILE:interrupts"], files).exit_code == 130


def test_inputs_are_asked_for_only_by_commands_that_take_them(files):
    asked = "return (model, example_inputs) from the factory; depth and transfer also take --input"
    assert asked in run(["depth", "FILE:plain"], files).output
    sizes = ["--vary", "depth=2,3"]
    for command in (["measure"], ["check", *sizes], ["sweep", *sizes, "--storage", "FILE.log"]):
        output = run([command[0], "FILE:plain", *command[1:], *DATA, "--seeds", "1"], files).output
        assert "--input" not in output  # the data brings the inputs


def test_a_tensor_beside_the_model_is_its_input(files):
    result = run(["depth", "FILE:beside_a_tensor", "--json"], files)
    assert result.exit_code == 0, result.output


def test_other_integers_are_indices_too(files):
    size = ["--arg", "n_layer=1", "--arg", "n_embd=24", "--input", "input_ids=1,4:int32"]
    assert run(["depth", "hf:GPT2LMHeadModel", *size], files).exit_code == 0
