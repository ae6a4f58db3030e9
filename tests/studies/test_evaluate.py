"""Stored experiments give their stored optima, exponents and regrets once more."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from studies import evaluate as module
from studies.evaluate import differences, evaluate, main, read_stored
from studies.experiments.registry import EXPERIMENTS
from studies.files import write_evidence
from studies.reproduce import RESULTS, run_study
from studies.running import Workplace

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_stored_experiment_gives_its_stored_results(name):
    assert evaluate(ROOT / RESULTS / name / "cpu", name) == ()


def test_every_experiment_is_stored():
    stored = {path.parent.name for path in (ROOT / RESULTS).glob("*/cpu")}
    # the second evidence and the study of batch and duration have their own tests
    assert stored - {"families", "batch_duration"} == set(EXPERIMENTS)


@pytest.fixture
def folder(small_study, tmp_path, monkeypatch):
    """A small study, run and stored."""
    study = small_study()
    monkeypatch.setattr(module, "EXPERIMENTS", {"small": lambda scale: study})
    place = tmp_path / "small" / "smoke"
    place.mkdir(parents=True)
    write_evidence(run_study(study, Workplace()), place)
    return place


def test_what_was_run_is_evaluated_to_what_was_written(folder):
    assert evaluate(folder, "small", scale="smoke") == ()
    assert len(read_stored(folder).runs["small, 1/K", "tune"]) == 18


@pytest.mark.parametrize(
    ("file", "change", "where"),
    [
        ("optima.json", lambda data: data[0].update(lr=data[0]["lr"] * 1.01), "optima.json.0.lr"),
        ("optima.json", lambda data: data.pop(), "optima.json: stored 2 entries, found 3"),
        (
            "fits.json",
            lambda data: data["exponents"][0].update(exponent=-9.0),
            "fits.json.exponents.0.exponent: stored -9.0",
        ),
        (
            "fits.json",
            lambda data: data["claims"][0].update(verdict="perhaps"),
            "fits.json.claims.0.verdict: stored 'perhaps'",
        ),
        ("regret.json", lambda data: data[1].update(regret=2.0), "regret.json.1.regret"),
        ("regret.json", lambda data: data[1].update(lr=data[0]["lr"]), "regret.json.1.lr"),
        ("regret.json", lambda data: data.pop(0), "regret.json: stored 2 entries, found 3"),
    ],
)
def test_what_does_not_follow_from_the_runs_is_found(folder, capsys, file, change, where):
    data = json.loads((folder / file).read_text())
    change(data)
    (folder / file).write_text(json.dumps(data))
    assert main(["small", "--results", str(folder.parents[1]), "--scale", "smoke"]) == 1
    assert where in capsys.readouterr().out


def test_a_changed_run_is_found(folder):
    path = folder / "trials.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    place = rows[0].index("loss")
    rows[1][place] = str(float(rows[1][place]) + 0.01)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    assert evaluate(folder, "small", scale="smoke")


def test_all_that_is_stored_is_evaluated_where_no_name_is_given(folder, capsys):
    place = ["--results", str(folder.parents[1]), "--scale", "smoke"]
    assert main(place) == 0
    assert capsys.readouterr().out == "small: 0 differences\n"
    shutil.rmtree(folder)
    assert main(place) == 0
    assert capsys.readouterr().out == ""


def test_a_relative_regret_is_as_exact_as_the_gain_it_is_divided_by():
    row = {"regret": 2e-5, "relative": 0.1, "relative_interval": [0.05, 0.15]}
    near = {**row, "relative": 0.1004}  # of a gain of 2e-4, rounding changes half a percent
    far = {**row, "relative": 0.11}
    assert list(differences(row, near)) == []
    assert list(differences(row, far)) != []
    large = {**row, "regret": 0.02}
    assert list(differences(large, {**large, "relative": 0.1004})) != []
