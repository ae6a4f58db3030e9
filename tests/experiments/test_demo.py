"""The demo: every law is there, regrets are differences of losses, workers change nothing."""

import json
from math import inf, log2
from statistics import fmean

import pytest

from etastar.errors import FitError, TrialError
from etastar.experiments.demo import DemoSettings, _Demo, run_demo
from etastar.experiments.demo_runs import Curve, DemoRuns
from etastar.laws import LAWS
from etastar.sweep import TrialResult

FEW = DemoSettings(
    base_blocks=1,
    target_blocks=6,
    width=4,
    num_steps=6,
    batch_size=16,
    seeds=(0, 3),
    base_lrs=(0.02, 0.04),
    target_lrs=(0.01, 0.02),
    extension=1,
    num_resamples=50,
)
RANGE = tuple(2.0**k for k in range(-8, -2))
PARABOLA = DemoSettings(seeds=(0, 1), base_lrs=RANGE, target_lrs=RANGE, num_resamples=50)
BRANCH_LAWS = ("depth-mup", "complete-p")


@pytest.fixture(scope="module")
def progress():
    return []


@pytest.fixture(scope="module")
def result(progress):
    return run_demo(settings=FEW, workers=0, on_progress=lambda *call: progress.append(call))


def trial(loss, *, initial=3.0):
    diverged = loss == inf
    return TrialResult((initial,), diverged, 0 if diverged else 1, loss, loss, 0.5)


class Parabola:
    """A pool that trains nothing: loss = 1 + seed / 8 + (log2 lr - log2 best)^2."""

    def __init__(self, *, base, target, base_limit=inf, target_limit=inf):
        blocks = (PARABOLA.base_blocks, PARABOLA.target_blocks)
        self.best = dict(zip(blocks, (base, target), strict=True))
        self.limit = dict(zip(blocks, (base_limit, target_limit), strict=True))
        self.trained = []

    def outcomes(self, tasks):
        for run in reversed(tasks):
            self.trained.append(run)
            loss = 1 + run.seed / 8 + log2(run.lr / self.best[run.blocks]) ** 2
            yield run, trial(loss if run.lr < self.limit[run.blocks] else inf)


def demo(pool, settings=PARABOLA):
    return _Demo(DemoRuns(settings, pool, lambda *_: None)).result(0.0)


def curve_of(pool, size="base", settings=PARABOLA):
    runs = DemoRuns(settings, pool, lambda *_: None)
    curve = Curve(size, "all", runs)
    wanted = curve.wanted()
    while wanted:
        runs.train("tune", {curve.use: wanted})
        wanted = curve.extend()
    return curve.record()


def test_every_registered_law_is_a_rule(result):
    assert [rule.name for rule in result.rules] == list(LAWS)


def test_two_workers_give_the_same_result(result):
    assert run_demo(settings=FEW, workers=2) == result


def test_the_target_is_deeper_and_measured_on_the_networks(result):
    assert (result.base.effective_depth, result.target.effective_depth) == (3, 8)
    assert (result.base.residual_additions, result.target.residual_additions) == (1, 6)


def test_default_target_is_at_least_six_times_deeper_in_effective_depth():
    found = demo(Parabola(base=2.0**-5, target=2.0**-6))
    assert (found.base.effective_depth, found.target.effective_depth) == (4, 26)


def test_the_same_rate_is_the_constant_law(result):
    constant = next(rule for rule in result.rules if rule.name == "constant")
    assert constant.lr == result.curve("base", "all").optimum.lr
    assert constant.factor == 1.0


def test_rates_follow_the_laws_from_the_base_tuned_under_the_same_initialization(result):
    rules = {rule.name: rule for rule in result.rules}
    for name, rule in rules.items():
        assert rule.residual == ("none" if name in BRANCH_LAWS else "all")
        assert rule.base_lr == result.curve("base", rule.residual).optimum.lr
    assert rules["effective-depth"].factor == pytest.approx((8 / 3) ** -1.5)
    assert rules["depth-mup"].factor == pytest.approx(1 / 6)
    assert rules["depth-mup"].other_lrs == (rules["depth-mup"].base_lr,)


def test_rules_with_the_same_run_share_it(result):
    nominal = next(rule for rule in result.rules if rule.name == "nominal-depth")
    effective = next(rule for rule in result.rules if rule.name == "effective-depth")
    assert nominal.mean_losses == effective.mean_losses
    shared = [t for t in result.trials if "rule nominal-depth" in t.used_for]
    assert len(shared) == len(FEW.seeds)
    assert all("rule effective-depth" in t.used_for for t in shared)


def test_laws_that_differ_in_initialization_do_not_share_runs(result):
    depth_mup, complete_p = (
        next(rule for rule in result.rules if rule.name == name) for name in BRANCH_LAWS
    )
    assert depth_mup.lr == complete_p.lr
    assert depth_mup.mean_losses != complete_p.mean_losses


def test_trials_hold_every_run_of_every_curve_and_rule(result):
    runs = {
        (t.size, t.residual, t.lr, t.seed): t for t in result.trials if "rule" not in t.used_for
    }
    for curve in result.curves:
        for lr, losses in zip(curve.lrs, curve.losses, strict=True):
            kept = [runs[curve.size, curve.residual, lr, seed].mean_loss for seed in FEW.seeds]
            assert tuple(kept) == losses
    for rule in result.rules:
        kept = [t.mean_loss for t in result.trials if f"rule {rule.name}" in t.used_for]
        assert tuple(kept) == rule.mean_losses


def test_progress_counts_every_run_once_and_ends_full(result, progress):
    last = {stage: (done, total) for stage, done, total in progress}
    assert all(done == total for done, total in last.values())
    assert sum(total for _, total in last.values()) == len(result.trials)
    assert progress[0] == ("tune the base", 0, 8)


def test_as_dict_is_json_without_nan(result):
    data = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert len(data["trials"]) == len(result.trials)
    assert data["rules"][0]["regret"]["regret"] == result.rules[0].regret.regret
    assert data["settings"]["seeds"] == [0, 3]


def test_regret_is_the_rules_loss_minus_the_own_optimums():
    found = demo(Parabola(base=2.0**-5, target=2.0**-6))
    for rule in found.rules:
        by_hand = log2(rule.lr / 2.0**-6) ** 2
        assert rule.regret.regret == pytest.approx(by_hand)
        # the seeds add 0 and 1/8, so the optimum gains 3 - 1 - 1/16
        assert rule.regret.relative == pytest.approx(by_hand / (2 - 1 / 16))
    assert found.reference.lr == pytest.approx(2.0**-6)
    assert found.reference.regret.regret == 0.0
    assert found.reference.loss_spread == pytest.approx(0.125 / 2**0.5)


def test_each_run_is_trained_once():
    pool = Parabola(base=2.0**-5, target=2.0**-6)
    found = demo(pool)
    assert len(pool.trained) == len(set(pool.trained)) == len(found.trials)


def test_an_interior_minimum_adds_nothing_and_has_no_flag():
    curve = curve_of(Parabola(base=2.0**-5.3, target=1.0))
    assert (curve.lrs, curve.added_lrs, curve.flags) == (RANGE, (), ())
    assert curve.optimum.lr == pytest.approx(2.0**-5.3)


@pytest.mark.parametrize(
    ("best", "added"),
    [(2.0**-9, (2.0**-10, 2.0**-9)), (2.0**-2, (2.0**-2, 2.0**-1)), (2.0**-8, (2.0**-9,))],
)
def test_the_range_is_extended_at_either_edge_until_the_minimum_is_inside(best, added):
    curve = curve_of(Parabola(base=best, target=1.0))
    assert curve.added_lrs == added
    assert curve.optimum.lr == pytest.approx(best)
    assert curve.flags == (f"range extended by {len(added)}",)


@pytest.mark.parametrize("best", [2.0**-14, 2.0**3])
def test_a_minimum_still_at_the_edge_after_the_extension_is_flagged(best):
    curve = curve_of(Parabola(base=best, target=1.0))
    assert len(curve.added_lrs) == 2
    assert curve.optimum.at_edge
    assert curve.flags[0].startswith("AT THE EDGE")


def test_a_curve_that_diverged_everywhere_is_extended_downwards():
    curve = curve_of(Parabola(base=2.0**-10, target=1.0, base_limit=2.0**-8))
    assert curve.added_lrs == (2.0**-10, 2.0**-9)
    assert "diverged runs: 12" in curve.flags
    with pytest.raises(FitError, match="every rate has a diverged run"):
        curve_of(Parabola(base=1.0, target=1.0, base_limit=2.0**-12))


def test_a_diverged_rule_has_infinite_regret_and_null_in_json():
    found = demo(Parabola(base=2.0**-4, target=2.0**-7, target_limit=2.0**-5))
    constant = next(rule for rule in found.rules if rule.name == "constant")
    row = next(row for row in found.as_dict()["rules"] if row["name"] == "constant")
    assert (constant.regret.regret, constant.num_diverged, constant.loss_spread) == (inf, 2, None)
    assert (row["regret"]["regret"], row["mean_loss"]) == (None, None)
    assert row["regret"]["num_diverged"] == 2


def test_a_diverged_fitted_optimum_falls_back_on_the_grid():
    class Cliff(Parabola):
        def outcomes(self, tasks):
            for run, outcome in super().outcomes(tasks):
                on_grid = run.blocks == PARABOLA.base_blocks or run.lr in RANGE
                yield run, outcome if on_grid else trial(inf)

    found = demo(Cliff(base=2.0**-5, target=2.0**-5.7))
    assert found.reference.lr == 2.0**-6
    assert "a seed diverged" in found.reference_note
    assert found.reference.mean_loss == pytest.approx(1 + fmean((0, 1 / 8)) + 0.3**2)


@pytest.mark.parametrize(
    "setting",
    [
        {"seeds": ()},
        {"seeds": (1, 1)},
        {"base_lrs": (0.1,)},
        {"target_lrs": (0.2, 0.1)},
        {"target_lrs": (0.0, 0.1)},
        {"target_blocks": 2},
        {"base_blocks": 0},
        {"extension": -1},
        {"momentum": 1.0},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(TrialError, match="what to do: correct"):
        DemoSettings(**setting)
