"""`etastar check`, run as a user runs it, in this process."""

import json

import pytest
from typer.testing import CliRunner

from etastar.cli import app

MLP = ["check", "zoo:mlp", "--arg", "depth=2", "--data", "digits", "--batch", "32"]
WIDTHS = [*MLP, "--vary", "width=32,128,512", "--seeds", "2", "--steps", "2"]


def run(*args):
    return CliRunner().invoke(app, list(args))


def test_one_rate_for_all_widths_exits_with_one_and_names_the_layers():
    result = run(*WIDTHS, "--optimizer", "adam", "--json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert report["passed"] is False
    (axis,) = report["axes"]
    assert (axis["axis"], axis["kind"], axis["sizes"]) == ("width", "width", [32, 128, 512])
    verdicts = {layer["module"]: layer["verdict"] for layer in axis["layers"]}
    assert verdicts == {"layers.0": "flat", "layers.1": "grows", "head": "grows"}
    hidden = axis["layers"][1]
    assert hidden["remedies"][0]["wanted"] == pytest.approx(1 / 16)
    assert hidden["remedies"][0]["found"] == 1.0
    assert [len(curve) for curve in hidden["change"]["curves"]] == [3, 3]  # seeds, sizes


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", "0.001"), ("sgd", "0.1")])
def test_the_width_rule_exits_with_zero(optimizer, lr):
    result = run(*WIDTHS, "--optimizer", optimizer, "--lr", lr, "--plan", "mup", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["passed"] is True
    assert report["num_steps"] == 2
    assert report["seeds"] == [0, 1]


def test_the_table_shows_exponents_verdicts_and_what_would_mend():
    result = run(*WIDTHS, "--optimizer", "adam")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "failed: 2 layers depend on the size" in text
    assert "exponents in width = 32, 128, 512 (width)" in text
    assert "layers.1: change grows; from width=32 to 512 learning rate of layers.1.weight" in text


def test_the_law_is_a_plan_over_depth():
    args = ["check", "zoo:resmlp", "--arg", "width=32", "--vary", "depth=2,4,8"]
    rest = ["--data", "digits", "--optimizer", "adam", "--seeds", "2", "--json"]
    standard = json.loads(run(*args, *rest, "--init", "none").stdout)
    planned = json.loads(run(*args, *rest, "--law", "complete-p").stdout)

    def stream(report):
        layers = report["axes"][0]["layers"]
        (found,) = [layer for layer in layers if layer["name"].startswith("addition")]
        return found["change"]["exponent"]

    assert stream(standard) > 0.5
    assert abs(stream(planned)) < 0.2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--optimizer", "adam", "--plan", "warp"], "law 'warp'"),
        (["--optimizer", "lamb"], "'lamb' is not one of"),
        (["--optimizer", "adam", "--init", "warm"], "init='warm'"),
        (["--optimizer", "adam", "--momentum", "0.9"], "momentum"),
        (["--optimizer", "adam", "--law", "complete-p", "--law", "depth-mup"], "complete-p"),
        (["--optimizer", "adam", "--lr", "-1"], "lr"),
        (["--optimizer", "sgd", "--momentum", "nan"], "momentum"),
        (["--optimizer", "adam", "--weight-decay", "-1"], "weight"),
    ],
)
def test_what_is_wrong_exits_with_two(extra, message):
    result = run(*MLP, "--sizes", "width=8,16", *extra)
    assert result.exit_code == 2
    assert message in result.stderr
