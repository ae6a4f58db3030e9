"""From results and from files to sections: the same, whatever way they come."""

import json
import os
from dataclasses import replace

import pytest
import torch
from torch import nn

from etastar.errors import PlanError, ReportError, StorageError
from etastar.fit import transfer_regret
from etastar.measure import scan_updates
from etastar.report.sections import section_of, sections_of
from etastar.sweep.storage import OptunaStore
from etastar.sweep.tune_result import TuneResult

TITLES = {
    "plan": "Plan",
    "depth": "Network",
    "update": "Measurement",
    "scan": "Scan",
    "coordinates": "Coordinate check",
    "sweep": "Sweep",
    "law": "Power law",
}


@pytest.mark.parametrize("name", TITLES)
def test_a_result_and_its_printed_json_give_the_same_section(name, results, tmp_path):
    section = section_of(results[name])
    assert section.title == TITLES[name]
    path = tmp_path / "printed.json"
    path.write_text(json.dumps(results[name].as_dict(), allow_nan=False))
    (read,) = sections_of(str(path))
    assert "printed.json, written 20" in read.origin
    assert (read.facts, read.panels, read.notes) == (section.facts, section.panels, section.notes)
    assert all(panel.rows for panel in section.panels)
    for panel in section.panels:
        assert {len(row) for row in panel.rows} == {len(panel.headings)}


def test_a_plan_file_is_the_plan(plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    (read,) = sections_of(str(tmp_path / "plan.json"))
    assert read.panels == section_of(plan).panels
    assert read.network == ()  # the graph is not in the file
    assert sum(node.lit for node in section_of(plan).network) == plan.target_depth


def test_a_store_is_its_sweep_and_the_fit_through_it(sweep, tmp_path):
    where = str(tmp_path / "sweep.journal")
    with OptunaStore(where) as store:
        store.open({"optimizer": "sgd"})
        for one in sweep.sizes:
            store.keep_depth(one.size, 2.0 + dict(one.size)["depth"])
            store.begin(one.size, [trial.point for trial in one.trials])
            for trial in one.trials:
                store.finish(trial)
    found, fit = sections_of(where)
    assert found.panels == section_of(sweep).panels
    assert [row[1] for row in fit.panels[0].rows] == ["3", "4", "6"]
    with pytest.raises(StorageError, match="--name"):
        sections_of(where, name="other")


def test_a_model_of_a_package_is_drawn():
    (section,) = sections_of("zoo:mlp", settings={"depth": 3, "width": 8})
    assert [node.module for node in section.network if node.lit] == [
        *(f"layers.{k}" for k in range(3)),
        "head",
    ]


def test_a_tuning_shows_its_runs_and_its_plan(sweep, plan):
    known = replace(plan, lr_interval=(0.001, 0.1))
    tuned = TuneResult(known, sweep, (("depth", 8),), 0.04, "precise", precision=1.5, budget=0.05)
    section = section_of(tuned)
    titles = [chart.title for chart in section.charts]
    assert titles == [
        "loss against learning rate",
        "optimal learning rate over depth",
        "learning rate by group",
    ]
    target = section.charts[1].series[-1]
    assert (target.x, target.y, target.y_ends) == ((8,), (plan.lr,), ((0.001, 0.1),))
    bare = section_of(json.loads(json.dumps(tuned.as_dict())))  # JSON has the optima alone
    assert [chart.title for chart in bare.charts] == titles[1:]


def test_a_result_without_a_picture_shows_its_text(results):
    for result in (transfer_regret([1.5, 1.75], [1.0, 1.25]), results["stability"]):
        (panel,) = section_of(result).panels
        assert [line for (line,) in panel.rows] == str(result).splitlines()


@pytest.mark.parametrize("thing", [3, torch.ones(1), {}, {"optima": [], "trials": 3}, None])
def test_what_is_no_result_is_refused(thing):
    with pytest.raises(ReportError):
        section_of(thing)


@pytest.mark.parametrize("text", ["[1]", "{}", '{"groups": 1, "target_depth": 2, "law": ""}'])
def test_json_that_is_no_result_is_refused(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ReportError):
        sections_of(str(path))


def test_files_that_are_not_there_or_damaged_are_told(tmp_path):
    with pytest.raises(ReportError, match="no file"):
        sections_of(os.fspath(tmp_path / "none.json"))
    (tmp_path / "plan.json").write_text('{"format_version": 3}')
    with pytest.raises(PlanError):
        sections_of(os.fspath(tmp_path / "plan.json"))


def test_a_scan_in_which_two_sizes_have_one_depth_is_shown_with_all_its_sizes():
    def halved(depth):
        return nn.Sequential(*(nn.Linear(4, 4) for _ in range(depth // 2)))

    every = [{"depth": depth} for depth in (4, 5, 8)]
    options = {"optimizer": "sgd", "seeds": 1, "pre_activations": "layers"}
    report = scan_updates(
        halved, every, (torch.ones(2, 4), None), lambda output, _: output.sum(), **options
    )
    first = section_of(report).panels[0]
    assert [row[:2] for row in first.rows] == [("depth=4", "2"), ("depth=5", "2"), ("depth=8", "4")]
    points = next(one for one in first.chart.series if one.look == "points")
    assert points.x == (2.0, 2.0, 4.0)
