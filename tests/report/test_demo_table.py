"""The demo's table says what the result holds, and names the lowest regret from it."""

import io
from dataclasses import replace
from math import inf

import pytest
from rich.console import Console

from etastar.fit import find_optimum, transfer_regret
from etastar.report.demo_result import (
    DemoCurve,
    DemoNetwork,
    DemoResult,
    DemoRule,
    DemoSettings,
)
from etastar.report.demo_table import demo_table

LRS = (0.1, 0.2, 0.4)
INSIDE = ((1.0, 1.2), (0.5, 0.7), (1.0, 1.2))
OPTIMAL = (0.5, 0.75)
INITIAL = (2.5, 2.75)


def curve(size="base", residual="all", losses=INSIDE):
    optimum = find_optimum(LRS, losses, num_resamples=20)
    return DemoCurve(size, residual, LRS, losses, (), optimum)


def rule(name, losses, *, lr=0.05, residual="all", other_lrs=(), accuracies=(0.75, 0.85)):
    regret = transfer_regret(losses, OPTIMAL, initial_losses=INITIAL, num_resamples=20)
    return DemoRule(name, name, 0.2, lr, other_lrs, residual, losses, losses, accuracies, regret)


def result(*rules, **changes):
    found = DemoResult(
        settings=DemoSettings(seeds=(0, 1)),
        base=DemoNetwork(2, 4, 2),
        target=DemoNetwork(24, 26, 24),
        curves=(curve(), curve(residual="none"), curve("target")),
        rules=rules,
        reference=rule("own optimum", OPTIMAL, lr=0.2),
        reference_note=None,
        trials=(),
    )
    return replace(found, **changes)


def text(found, width=130):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(demo_table(found))
    return console.file.getvalue()


def row(found, name):
    lines = text(found).splitlines()
    line = next(line for line in lines if line.split() and line.split()[0] == name.split()[0])
    return " ".join(line.split())


EFFECTIVE = rule("effective-depth", (1.0, 1.25))
CONSTANT = rule("constant", (inf, 1.25), lr=0.2, accuracies=(None, 0.4))
DEPTH_MUP = rule("depth-mup", (0.5, 1.0), lr=0.0167, residual="none", other_lrs=(0.2,))


def test_a_row_holds_rate_factor_init_loss_accuracy_and_regret():
    expected = "effective-depth 0.05 0.25 1/K 1.125 ±0.177 80.0% 0.500 [0.500, 0.500] 25.0%"
    assert row(result(EFFECTIVE), "effective-depth") == expected


def test_the_own_optimum_is_a_row_of_regret_zero():
    expected = "own optimum 0.2 1 1/K 0.625 ±0.177 80.0% 0.000 [0.000, 0.000] 0.0%"
    assert row(result(EFFECTIVE), "own optimum") == expected


def test_a_diverged_rule_says_so_and_has_no_numbers():
    expected = "constant 0.2 1 1/K diverged 1 of 2 40.0% inf [0.500, inf] inf"
    assert row(result(CONSTANT), "constant") == expected


def test_further_rates_of_a_law_are_marked_and_explained():
    found = result(DEPTH_MUP)
    assert row(found, "depth-mup").startswith("depth-mup 0.0167* 0.0835 law 0.750")
    assert "* depth-mup: hidden weights; outside of the branches 0.2." in text(found)


def test_the_head_holds_networks_budget_and_tuned_rates():
    shown = text(result(EFFECTIVE))
    assert "2 blocks, effective depth 4, K = 2" in shown
    assert "24 blocks, effective depth 26, K = 24" in shown
    assert "100 steps of 64, SGD with momentum 0.9, seeds 0, 1" in shown
    assert "0.2 [0.2, 0.2] of 3 rates 0.1 to 0.4" in shown


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"curves": (curve(losses=((0.1, 0.1), *INSIDE[1:])),)}, "AT THE EDGE"),
        ({"curves": (replace(curve(), added_lrs=(0.4,)),)}, "range extended by 1"),
        ({"reference_note": "it diverged"}, "own optimum: it diverged."),
    ],
)
def test_what_limits_trust_is_shown(changes, expected):
    assert expected not in text(result(EFFECTIVE))
    assert expected in text(result(EFFECTIVE, **changes))


def test_the_verdict_names_the_lowest_regret_and_the_place_of_effective_depth():
    shown = text(result(EFFECTIVE, DEPTH_MUP, CONSTANT))
    assert "Lowest regret of 3 rules: depth-mup (0.125)." in shown
    assert "effective-depth: place 2 of 3 (0.500)." in shown


def test_the_verdict_follows_the_numbers_not_the_names():
    better = rule("effective-depth", (0.5, 0.8))
    nominal = rule("nominal-depth", (0.5, 0.8))
    shown = text(result(DEPTH_MUP, better, nominal))
    assert "Lowest regret of 3 rules: effective-depth and nominal-depth (0.025)." in shown
    assert "effective-depth: place 1 of 3, equal with 1 other (0.025)." in shown


def test_the_verdict_when_nothing_could_be_trained():
    assert "Every rule diverged at the target." in text(result(CONSTANT))


def test_a_narrow_terminal_loses_no_number():
    tiny = rule("path-sum", (2.5, 2.75), lr=6.123e-06)
    shown = text(result(EFFECTIVE, DEPTH_MUP, CONSTANT, tiny), width=80)
    assert "…" not in shown
    assert all(part in shown for part in ("6.12e-06", "3.06e-05", "100.0%", "0.0167*"))
