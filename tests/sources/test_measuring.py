"""The criterion of named models on named data."""

import json
import math
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from etastar.cli import app
from etastar.errors import MeasureError, ModelSpecError
from etastar.measure import measure_update
from etastar.optimizers import OPTIMIZERS
from etastar.sources.measuring import announced, measurable, measure_named
from etastar.sources.model_spec import parse_sizes
from etastar.sources.recipe_spec import RecipeSpec, named_recipe
from etastar.transfer import Tuned, plan_transfer

SETTINGS = {"width": 16}


def recipe(settings, optimizer="sgd", batch=16):
    parts = {"init": "last", "num_steps": 3, "batch_size": batch}
    return named_recipe(RecipeSpec("zoo:mlp", "digits", optimizer, settings, **parts))


def test_it_is_the_measurement_of_the_experiments_own_parts():
    named = recipe({**SETTINGS, "depth": 3}, "adam")
    found = measure_named(named, seeds=2, pre_activations="layers")
    direct = measure_update(
        named.make_model, next(iter(named.batches(0))), named.loss_fn, optimizer="adam",
        seeds=2, pre_activations="layers",
    )  # fmt: skip
    assert found == direct
    assert len(found.layers) == 4


def test_a_scan_is_over_depth_where_depth_changes_and_over_the_setting_elsewhere():
    deep = measure_named(recipe(SETTINGS), parse_sizes(["depth=2,4"]), seeds=1)
    found = deep.exponents["depth"]
    assert (found.over, found.abscissas) == ("effective depth", (3.0, 5.0))
    first, second = (point.report.eta_star for point in deep.points)
    assert found.exponent == pytest.approx(math.log(second / first) / math.log(5 / 3))
    wide = measure_named(recipe({"depth": 2}), parse_sizes(["width=8,16"]), seeds=1)
    assert wide.exponents["width"].over == "width"


def test_bad_scans_are_refused():
    with pytest.raises(ModelSpecError, match="sizes"):
        measure_named(recipe(SETTINGS), parse_sizes(["depth"]))
    with pytest.raises(MeasureError, match="two different"):
        measure_named(recipe(SETTINGS), parse_sizes(["depth=3"]))


COMMAND = [
    "measure", "zoo:mlp", "--data", "digits", "--batch", "8", "--seeds", "2",
]  # fmt: skip


def run(*args):
    return CliRunner().invoke(app, [*COMMAND, *args])


def test_the_command_shows_one_network_and_scans_sizes():
    one = run("--optimizer", "sgd", "--arg", "depth=2", "--arg", "width=16")
    assert one.exit_code == 0, one.output
    assert "eta* =" in one.output
    several = run("--optimizer", "sgd", "--vary", "depth=2,4", "--vary", "width=8,16", "--json")
    assert several.exit_code == 0, several.output
    data = json.loads(several.stdout)
    assert set(data["exponents"]) == {"depth", "width"}
    assert [point["size"] for point in data["points"]] == [
        {"depth": 2, "width": 8}, {"depth": 4, "width": 8}, {"depth": 2, "width": 16},
    ]  # fmt: skip
    table = run("--optimizer", "sgd", "--sizes", "depth=2,4")
    assert "effective depth" in table.output


def test_the_command_knows_every_optimizer_of_the_registry():
    for name, kind in OPTIMIZERS.items():
        done = run("--optimizer", name, "--arg", "depth=2", "--arg", "width=16")
        package = kind.source.partition(":")[0].partition(".")[0]
        if find_spec(package) is None:
            assert (done.exit_code, "install its package" in done.output) == (2, True)
        else:
            assert done.exit_code == 0, (name, done.output)


MODELS = """
from torch import nn

def net(width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

def empty():
    return nn.Sequential(nn.Flatten())

class Exiting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        raise SystemExit(0)
"""


@pytest.fixture
def models(tmp_path):
    file = tmp_path / "models.py"
    file.write_text(MODELS)
    return file


def test_a_factory_without_example_inputs_runs_on_the_data(models, tmp_path):
    """The commands have no --input: the batch says what the model runs on."""
    command = ["--data", "digits", "--optimizer", "sgd", "--batch", "8", "--seeds", "1"]
    runs = ["--steps", "2", "--lrs", "0.1", "--storage", str(tmp_path / "runs.log")]
    for name, more, codes in (("measure", [], {0}), ("check", [], {0, 1}), ("sweep", runs, {0})):
        sizes = ["--vary", "width=8,16"]
        done = CliRunner().invoke(app, [name, f"{models}:net", *command, *sizes, *more])
        assert done.exit_code in codes, done.output


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--optimizer", "sgd", "--pre-activations", "none"], "layers, hidden, stream"),
        (["--optimizer", "sgd", "--momentum", "nan"], "momentum"),
        (["--optimizer", "sgd", "--weight-decay", "-1"], "weight decay"),
        (["--optimizer", "muon", "--weight-decay", "0.1"], "muon"),
        (["--optimizer", "lamb"], "lamb"),
        (["--optimizer", "sgd", "--seeds", "0"], "seeds"),
        (["--optimizer", "sgd", "--seeds", "7,x"], "--seeds 7,x"),
        (["--optimizer", "sgd", "--seeds", "7-9"], "--seeds 7-9"),
        (["--optimizer", "sgd", "--seeds", "3", "--precision", "0.1"], "precision"),
        (["--optimizer", "sgd", "--seeds", "0-", "--precision", "0"], "precision"),
    ],
)
def test_bad_input_ends_with_2_and_a_message(extra, message):
    done = run(*extra)
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(("name", "message"), [("empty", "parameter"), ("Exiting", "SystemExit")])
def test_a_model_that_cannot_be_measured_ends_with_2(models, name, message):
    command = ["measure", f"{models}:{name}", "--data", "digits", "--optimizer", "sgd"]
    done = CliRunner().invoke(app, [*command, "--init", "own"])
    assert done.exit_code == 2, done.output
    assert message in done.output


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (["--seeds", "2"], [0, 1]),
        (["--seeds", "7,9"], [7, 9]),
        (["--seeds", "40-", "--precision", "9"], [40, 41, 42]),
        (["--precision", "9"], [0, 1, 2]),
    ],
)
def test_seeds_are_a_number_a_list_or_open_from_a_first(given, seeds):
    command = [*COMMAND[:-2], "--optimizer", "sgd", "--arg", "depth=2", "--arg", "width=8"]
    done = CliRunner().invoke(app, [*command, *given, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["seeds"] == seeds


TRANSFER = [
    "transfer", "zoo:mlp", "--arg", "width=32", "--base", "depth=2", "--target", "depth=6",
    "--lr", "0.1", "--optimizer", "sgd", "--data", "digits", "--batch", "8", "--json",
]  # fmt: skip


def test_transfer_measures_on_named_data():
    measured = CliRunner().invoke(app, [*TRANSFER, "--law", "measured"])
    assert measured.exit_code == 0, measured.output
    plan = json.loads(measured.stdout)
    assert "measured" in plan["law"]
    (note,) = (note for note in plan["notes"] if note.startswith("measured"))
    factor = float(note.split("times ")[1].split()[0])
    assert "draws of the base" in note
    assert plan["lr"] == pytest.approx(0.1 * factor, rel=5e-3)
    spec = RecipeSpec("zoo:mlp", "digits", "sgd", {"width": 32}, num_steps=1, batch_size=8)
    networks, measure = measurable(spec, [{"depth": depth} for depth in (2, 6)])
    direct = plan_transfer(
        Tuned(networks[0], 0.1), networks[1], optimizer="sgd", law="measured", measure=measure
    )
    assert plan["lr"] == direct.lr
    both = CliRunner().invoke(app, [*TRANSFER, "--input", "2,64"])
    assert both.exit_code == 2
    assert "--input" in both.output


@pytest.mark.filterwarnings("ignore:complete-p")  # the criterion has another rate
def test_transfer_on_data_initializes_as_the_law_wants():
    """1/K on the branches beside a law that scales them itself counted depth twice."""
    command = [
        "transfer", "zoo:resmlp", "--arg", "width=16", "--base", "depth=2", "--target", "depth=6",
        "--lr", "0.1", "--optimizer", "sgd", "--data", "digits", "--batch", "8", "--json",
        "--law", "complete-p",
    ]  # fmt: skip
    run = CliRunner().invoke
    plan = run(app, command)
    assert plan.exit_code == 0, plan.output
    found = json.loads(plan.stdout)
    assert found["initialization"] == {"residual": "none"}
    parts = {"init": "none", "num_steps": 1, "batch_size": 8}
    spec = RecipeSpec("zoo:resmlp", "digits", "sgd", {"width": 16}, **parts)
    networks, measure = measurable(spec, [{"depth": depth} for depth in (2, 6)])
    tuned = Tuned(networks[0], 0.1)
    direct = plan_transfer(tuned, networks[1], optimizer="sgd", law="complete-p", measure=measure)
    assert found["notes"] == list(direct.notes)
    twice = run(app, [*command, "--init", "all"])
    assert twice.exit_code == 2
    assert "count depth twice" in twice.output


def test_every_network_is_announced_by_its_size():
    of_sizes, of_one = [], []
    sizes = parse_sizes(["depth=2,4"])
    measure_named(announced(recipe(SETTINGS), of_sizes.append), sizes, seeds=1)
    assert [line.split()[2] for line in dict.fromkeys(of_sizes)][-1] == "depth=4"
    assert any(line.endswith("depth=2") for line in of_sizes)
    measure_named(announced(recipe(SETTINGS), of_one.append), seeds=1)
    assert of_one[0] == "network 1"
