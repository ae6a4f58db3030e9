"""What the charts show is what was found."""

import json
from dataclasses import replace
from math import log

import pytest
import torch
from torch import nn

import etastar
from etastar.fit import fit_power_law
from etastar.report.rate_line import PowerLine, RatePoint, tuned_line
from etastar.report.sections import section_of
from etastar.sweep import SweepResult, TuneResult
from etastar.sweep.result import SizeResult, loss_table, size_optimum


def test_a_sweep_shows_mean_losses_runs_and_minima(sweep):
    chart = section_of(sweep).charts[0]
    for one in sweep.sizes:
        name = f"depth={dict(one.size)['depth']}"
        runs, curve, best = (s for s in chart.series if s.name == name)
        lrs, losses = loss_table(one.trials)
        means = [float(f"{mean:.6g}") for mean in losses.mean(1)]
        assert curve.y == tuple(mean if mean < float("inf") else None for mean in means)
        assert None in curve.y  # the rate that diverged
        assert curve.x == pytest.approx(tuple(lrs), rel=1e-5)
        assert len(runs.x) == sum(not trial.diverged for trial in one.trials)
        assert (best.x, best.y) == ((one.optimum.lr,), (one.optimum.loss,))
        assert best.x_ends == (one.optimum.interval,)


def test_a_run_that_was_stopped_is_no_diverged_one(make_sweep):
    whole = make_sweep((2,), [0.01, 0.1, 1.0], 2).sizes[0]
    trials = tuple(
        replace(one, loss=float("inf"), losses=(), failed="stopped") if one.point.lr == 1 else one
        for one in whole.trials
    )
    section = section_of(SweepResult((SizeResult(whole.size, trials, size_optimum(trials)),)))
    row = dict(zip(section.panels[0].headings, section.panels[0].rows[0], strict=True))
    assert (row["runs"], row["diverged"], row["stopped"]) == ("6", "0", "2")
    assert row["flags"] == "stopped"
    assert any(note.startswith("stopped: by --run-timeout") for note in section.notes)
    assert section_of(make_sweep((2,), [0.01, 0.1, 100.0], 2)).notes == ()


def test_seeds_versions_and_settings_are_said(sweep):
    facts = section_of(sweep).facts
    assert facts["seeds"] == "0, 1, 2"
    assert facts["versions"] == "torch 2.9.0"
    assert facts["optimizer"] == "sgd"
    assert facts["runs"] == str(len(sweep.trials))


def test_the_line_over_depth_is_the_fit_with_its_interval(sweep):
    chart = section_of(sweep).charts[1]
    fit = fit_power_law([1, 2, 4], [one.optimum for one in sweep.sizes])
    band, line, marks = chart.series
    assert line.name.startswith(f"exponent {fit.exponent:.3f} (95% {fit.exponent_interval[0]:.3f}")
    assert line.y == pytest.approx([fit.predict(x) for x in line.x])
    assert marks.y == tuple(one.optimum.lr for one in sweep.sizes)
    for x, y, (low, high) in zip(line.x, line.y, band.y_ends, strict=True):
        assert low <= y * (1 + 1e-9)
        assert y <= high * (1 + 1e-9), x


@pytest.mark.parametrize("depths", [(2, 4), (3, 6)])
def test_the_prior_of_the_default_choice_stands_beside_the_fit(depths, make_sweep):
    def chain(depth):
        layers = [layer for _ in range(depth) for layer in (nn.Linear(8, 8), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(8, 2)), torch.zeros(1, 8)

    tuned = [etastar.Tuned(chain(depth), 0.1 / depth, log_lr_sd=0.1) for depth in depths]
    plan = etastar.plan_transfer(tuned, chain(12), optimizer="sgd")
    mean, sd = plan.prior
    alone = etastar.plan_transfer(tuned[1], chain(12), optimizer="sgd")
    assert alone.prior == plan.prior  # what was known before any rate
    assert f"exponent {mean:.2f}" in alone.why
    runs = make_sweep(depths, [10 ** (k / 4 - 3) for k in range(12)], 2)
    chart = section_of(TuneResult(plan, runs, (("depth", 12),), 0.1, "budget", 1.5, 0.1)).charts[1]
    band, line = chart.series[:2]
    assert line.name.startswith("prior of the default choice: exponent ")
    assert line.look == "dashes"
    first = runs.sizes[0].optimum.lr
    assert line.y[0] == pytest.approx(first)
    # effective depth is depth + 1: over blocks the same rise, from the deeper base to the target
    power = log(13 / (depths[1] + 1)) / log(12 / depths[1])
    assert line.y[-1] == pytest.approx(first * (12 / depths[0]) ** (mean * power))
    low, high = band.y_ends[-1]
    assert high / low == pytest.approx((12 / depths[0]) ** (2 * 1.96 * sd * power))
    named = etastar.plan_transfer(tuned[1], chain(12), optimizer="sgd", law="effective-depth")
    assert named.prior is None


def test_a_line_turns_about_the_weighted_middle_of_its_points():
    points = [RatePoint(2, 1.0, (0.9, 1.1)), RatePoint(8, 0.1, (0.01, 1.0)), RatePoint(32, 0.02)]
    assert tuned_line(points).ends is None  # one point has no interval
    line = tuned_line(points[:2])
    ends = [line.at(2.0, exponent) for exponent in line.ends]
    far = [line.at(8.0, exponent) for exponent in line.ends]
    assert ends[0] / ends[1] < far[1] / far[0]  # near the point that is known well, narrow
    assert tuned_line(points[:1]) is None
    assert PowerLine(log(2), log(0.5), -1.0, None).at(4) == pytest.approx(0.25)


def test_a_scan_has_the_measured_exponent_and_the_layers_as_cells(results):
    scan, section = results["scan"], section_of(results["scan"])
    line = next(s for s in section.charts[0].series if s.look == "line")
    assert line.name.startswith(f"exponent {scan.exponents['depth'].exponent:.3f}")
    cells = section.charts[-1].cells
    assert len(cells) == len(scan.points[-1].report.layers)
    last = scan.points[-1].report
    expected = [layer.mean_square_update / last.typical_mean_square for layer in last.layers]
    assert [2 ** row[-1] for row in cells] == pytest.approx(expected)
    assert cells[-1][0] is None  # the shallow network lacks this layer


def test_a_coordinate_check_is_a_heat_map_against_the_smallest_size(results):
    axis = results["coordinates"].axes[0]
    change, init = section_of(results["coordinates"]).charts
    assert change.x.ticks == ("width=16", "width=32")
    for one, row in zip(axis.layers, change.cells, strict=True):
        curve = one.change.curves[-1]
        assert row[0] == 0
        assert 2 ** row[1] == pytest.approx(curve[1] / curve[0])
    assert init.title.startswith("size at initialization")


def test_a_plan_shows_each_group_beside_the_rate_that_was_tuned(plan):
    chart = section_of(plan).charts[0]
    base, planned = chart.series
    assert planned.x == tuple(group.lr for group in plan.groups)
    assert base.x == pytest.approx([0.1] * len(plan.groups))
    rows = section_of(plan).panels[0].rows
    assert [row[0] for row in rows] == [group.name for group in plan.groups]


def test_regrets_of_rules_are_marks_and_a_diverged_one_is_told():
    rules = [
        {"rule": "constant", "lr": 0.1, "loss": None, "relative_regret": None},
        {"rule": "auto", "lr": 0.03, "loss": 1.0, "relative_regret": 0.002},
    ]
    section = section_of({"rules": rules})
    assert section.charts[0].series[0].x == (None, 0.002)
    assert [row[-1] for row in section.panels[0].rows] == ["diverged", "0.2%"]


def test_numbers_that_are_not_finite_leave_gaps(results):
    data = json.loads(json.dumps(results["update"].as_dict()))
    data["layers"][0]["mean_square_update"] = None
    data["layers"][1]["mean_square_update"] = 0.0
    assert section_of(data).charts[0].series[1].y[:2] == (None, None)
