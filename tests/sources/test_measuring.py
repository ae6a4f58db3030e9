"""The criterion of named models on named data."""

import json
import math

import pytest
from typer.testing import CliRunner

from etastar.cli import app
from etastar.errors import MeasureError, ModelSpecError
from etastar.measure import measure_update
from etastar.sources.measuring import measurable, measure_named, scan_named
from etastar.sources.recipe_spec import RecipeSpec, named_recipe
from etastar.transfer import Tuned, plan_transfer

SETTINGS = {"width": 16}


def recipe(settings, optimizer="sgd", batch=16):
    parts = {"init": "last", "num_steps": 3, "batch_size": batch}
    return named_recipe(RecipeSpec("zoo:mlp", "digits", optimizer, settings, **parts))


def test_it_is_the_measurement_of_the_experiments_own_parts():
    named = recipe({**SETTINGS, "depth": 3}, "adam")
    found = measure_named(named, seeds=(0, 1))
    direct = measure_update(
        named.make_model, next(iter(named.batches(0))), named.loss_fn, optimizer="adam",
        seeds=(0, 1),
    )  # fmt: skip
    assert found == direct
    assert len(found.layers) == 4


def test_steps_before_use_other_batches():
    named = recipe({**SETTINGS, "depth": 3})
    found = measure_named(named, seeds=(0,), after=2, lr=0.01)
    assert (found.after, found.lr, found.cost_steps) == (2, 0.01, 3)
    settled = measure_named(named, seeds=(0,), after=2, kappa=0.2)
    assert settled.rounds > 0


def test_a_scan_is_over_depth_where_depth_changes_and_over_the_setting_elsewhere():
    deep = scan_named(recipe(SETTINGS), "depth=2,4", model="zoo:mlp", settings=SETTINGS, seeds=(0,))
    assert deep.scan.axis == "depth"
    assert [point.abscissa for point in deep.scan.points] == [3.0, 5.0]
    first, second = (point.report.eta_star for point in deep.scan.points)
    assert deep.scan.exponent == pytest.approx(math.log(second / first) / math.log(5 / 3))
    wide = scan_named(
        recipe({"depth": 2}), "width=8,16", model="zoo:mlp", settings={"depth": 2}, seeds=(0,)
    )
    assert (wide.name, wide.scan.axis) == ("width", "width")
    data = deep.as_dict()
    assert {
        "eta_star", "eta_star_interval", "mean_square_update", "layers", "method", "exponent",
        "exponent_interval", "points",
    } <= set(data)  # fmt: skip
    assert data["eta_star"] == deep.scan.points[0].report.eta_star


def test_bad_scans_are_refused():
    with pytest.raises(ModelSpecError, match="sizes"):
        scan_named(recipe(SETTINGS), "depth", model="zoo:mlp", settings=SETTINGS, seeds=(0,))
    with pytest.raises(MeasureError, match="two different"):
        scan_named(recipe(SETTINGS), "depth=3", model="zoo:mlp", settings=SETTINGS, seeds=(0,))


COMMAND = [
    "measure", "zoo:mlp", "--arg", "width=16", "--data", "digits", "--optimizer", "sgd",
    "--batch", "8", "--seeds", "2",
]  # fmt: skip


def test_the_command_prints_tables_and_ends_with_2_on_bad_input():
    run = CliRunner().invoke
    one = run(app, [*COMMAND, "--arg", "depth=2"])
    assert one.exit_code == 0, one.output
    assert "eta* =" in one.output
    scan = run(app, [*COMMAND, "--scan", "depth=2,4", "--pre-activations", "stream"])
    assert scan.exit_code == 0, scan.output
    assert "effective depth" in scan.output
    bad = run(app, [*COMMAND, "--pre-activations", "none"])
    assert bad.exit_code == 2
    assert "layers, hidden, stream" in bad.output


TRANSFER = [
    "transfer", "zoo:mlp", "--arg", "width=32", "--base", "depth=2", "--target", "depth=6",
    "--lr", "0.1", "--optimizer", "sgd", "--data", "digits", "--batch", "8", "--json",
]  # fmt: skip


def test_transfer_measures_on_named_data():
    run = CliRunner().invoke
    measured = run(app, [*TRANSFER, "--law", "measured"])
    assert measured.exit_code == 0, measured.output
    plan = json.loads(measured.stdout)
    assert "measured" in plan["law"]
    (note,) = (note for note in plan["notes"] if note.startswith("measured"))
    factor = float(note.rsplit(" ", 1)[1])
    assert plan["lr"] == pytest.approx(0.1 * factor, rel=5e-3)
    networks, measure = measurable(
        "zoo:mlp", [{"width": 32, "depth": depth} for depth in (2, 6)], data="digits",
        data_options={}, init="all", batch_size=8,
    )  # fmt: skip
    direct = plan_transfer(
        Tuned(networks[0], 0.1), networks[1], optimizer="sgd", law="measured", measure=measure
    )
    assert plan["lr"] == direct.lr
    both = run(app, [*TRANSFER, "--input", "2,64"])
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
    networks, measure = measurable(
        "zoo:resmlp", [{"width": 16, "depth": depth} for depth in (2, 6)], data="digits",
        data_options={}, init="none", batch_size=8,
    )  # fmt: skip
    tuned = Tuned(networks[0], 0.1)
    direct = plan_transfer(tuned, networks[1], optimizer="sgd", law="complete-p", measure=measure)
    assert found["notes"] == list(direct.notes)
    twice = run(app, [*command, "--init", "all"])
    assert twice.exit_code == 2
    assert "count depth twice" in twice.output
