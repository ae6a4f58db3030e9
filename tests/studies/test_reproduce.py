"""Experiments from their names to their folders: continued, repeated, refused."""

import csv
import json
import sys
from dataclasses import replace

import pytest

from etastar.errors import MissingExtraError, ModelSpecError, StorageError
from etastar.sweep import run_sweep
from etastar.sweep.executors import Sequential
from etastar.sweep.search import Grid
from studies import reproduce as module
from studies import running
from studies.__main__ import main
from studies.reproduce import JOURNAL, reproduce, run_study
from studies.running import Workplace

FILES = {
    "README.md",
    "trials.csv",
    "optima.json",
    "fits.json",
    "regret.json",
    "study.json",
    "figure.json",
}


@pytest.fixture
def named(monkeypatch, small_study):
    """The small study under a name."""

    def name_it(study=None):
        monkeypatch.setattr(module, "EXPERIMENTS", {"small": lambda scale: study or small_study()})

    name_it()
    return name_it


class Refuses(Sequential):
    """Runs nothing."""

    def run(self, recipe, size, points):
        raise AssertionError(f"asked to run {points}")


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != JOURNAL}


def test_all_files_are_written_and_say_the_same(named, tmp_path):
    found = reproduce("small", scale="smoke", out=tmp_path)
    assert found.folder == tmp_path / "small" / "smoke"
    assert {path.name for path in found.folder.iterdir()} == {*FILES, JOURNAL}
    rows = table(found.folder / "trials.csv")
    family = found.evidence.families[0]
    tuned = sum(len(one.trials) for one in family.sizes)
    assert [row["stage"] for row in rows].count("tune") == tuned == 18
    assert [row["stage"] for row in rows].count("transfer") == len(family.transfers)
    assert sum(int(row["steps"]) for row in rows) == found.evidence.steps
    optima = json.loads((found.folder / "optima.json").read_text())
    assert [one["lr"] for one in optima] == [one.optimum.lr for one in family.sizes]
    assert [one["axes"]["effective-depth"] for one in optima] == [3.0, 4.0, 6.0]
    regrets = json.loads((found.folder / "regret.json").read_text())
    assert [row["rule"] for row in regrets] == ["constant", "effective-depth", "fitted-2"]
    fits = json.loads((found.folder / "fits.json").read_text())
    assert fits["claims"][0]["verdict"] == found.evidence.judgements[0].verdict
    study = json.loads((found.folder / "study.json").read_text())
    assert study["command"] == "python -m studies small --scale smoke"
    assert {"torch", "numpy", "python"} <= set(study["versions"])


def test_fresh_stores_give_the_same_table(named, tmp_path):
    first, second = (reproduce("small", scale="smoke", out=tmp_path / name) for name in "ab")
    assert contents(first.folder) == contents(second.folder)


def test_what_the_store_has_is_not_run_again(named, tmp_path):
    first = contents(reproduce("small", scale="smoke", out=tmp_path).folder)
    again = reproduce("small", scale="smoke", out=tmp_path, workers=Refuses())
    assert contents(again.folder) == first


def test_an_interrupted_experiment_goes_on(named, tmp_path):
    class Interrupted(Sequential):
        left = 7

        def run(self, recipe, size, points):
            for record in super().run(recipe, size, points):
                if Interrupted.left == 0:
                    raise KeyboardInterrupt
                Interrupted.left -= 1
                yield record

    with pytest.raises(KeyboardInterrupt):
        reproduce("small", scale="smoke", out=tmp_path / "a", workers=Interrupted())
    continued = reproduce("small", scale="smoke", out=tmp_path / "a")
    undisturbed = reproduce("small", scale="smoke", out=tmp_path / "b")
    assert contents(continued.folder) == contents(undisturbed.folder)


def test_another_rule_runs_its_own_rates_alone_and_moves_no_optimum(
    small_study, small_family, tmp_path
):
    def gathered(rules):
        study = small_study(small_family(rules=rules))
        return run_study(study, Workplace(tmp_path / "store")).families[0]

    few, many = gathered(("constant",)), gathered(("constant", "effective-depth"))
    assert few.sizes == many.sizes
    assert few.regrets == many.regrets[:1]
    assert set(few.transfers) < set(many.transfers)
    assert gathered(("constant",)) == few


def test_a_store_of_another_declaration_is_refused(named, small_study, small_family, tmp_path):
    reproduce("small", scale="smoke", out=tmp_path)
    family = small_family()
    named(small_study(replace(family, budget=replace(family.budget, num_steps=5))))
    with pytest.raises(StorageError, match="num_steps"):
        reproduce("small", scale="smoke", out=tmp_path)


def test_a_storage_and_a_number_of_workers_can_be_given(named, tmp_path, monkeypatch):
    asked = set()

    def in_this_process(*arguments, workers, **options):
        asked.add(workers)
        return run_sweep(*arguments, **options)

    monkeypatch.setattr(running, "run_sweep", in_this_process)
    store = tmp_path / "elsewhere.log"
    found = reproduce(
        "small",
        scale="smoke",
        out=tmp_path,
        storage=str(store),
        workers=1,
    )
    assert asked == {1}
    assert store.exists()
    assert not (found.folder / JOURNAL).exists()


def test_a_size_of_which_everything_diverged_is_kept_and_flagged(
    named, small_study, small_family, tmp_path
):
    named(small_study(small_family(search=Grid((1e8, 2e8, 4e8)))))
    found = reproduce("small", scale="smoke", out=tmp_path)
    assert [one.optimum for one in found.evidence.families[0].sizes] == [None] * 3
    assert found.evidence.judgements[0].verdict == "undecided"
    rows = table(found.folder / "trials.csv")
    assert {row["diverged"] for row in rows} == {"1"}


@pytest.mark.parametrize(("name", "scale"), [("warp", "smoke"), ("small", "huge")])
def test_an_unknown_name_or_scale_is_refused(named, name, scale, tmp_path):
    with pytest.raises(ModelSpecError, match="choose a listed one"):
        reproduce(name, scale=scale, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_plotly_is_asked_for_before_anything_is_run(named, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[plotly\]"):
        reproduce("small", scale="smoke", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_verdicts_and_where_the_results_are(named, tmp_path, capsys):
    assert main(["small", "--scale", "smoke", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "it falls" in shown.out
    assert str(tmp_path / "small" / "smoke") in shown.out.replace("\n", "")
    assert "small, 1/K: depth=4" in shown.err


def test_the_command_refuses_an_unknown_name_with_the_list(tmp_path, capsys):
    assert main(["warp", "--out", str(tmp_path)]) == 2
    assert "mlp-trained" in capsys.readouterr().err
