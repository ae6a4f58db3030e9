"""The regret stage: what is trained, what it is compared with, and what that costs."""

from dataclasses import replace

import numpy as np
import pytest

from etastar.sweep.recipe import Point
from etastar.sweep.result import SizeResult, size_optimum
from etastar.sweep.trial import TrialRecord
from studies.declaration import Parametrization, size
from studies.network import network_architecture
from studies.rules.registry import rules_of
from studies.transferring import proposals, transfer_family

GRID = tuple(0.01 * 2.0**k for k in range(9))
STEPS = 4


def loss(lr, best, seed):
    return 1.0 + np.log2(lr / best) ** 2 / 10 + 0.1 * seed


def record(where, lr, seed, best, *, diverged=False):
    value = np.inf if diverged else loss(lr, best, seed)
    return TrialRecord(where, Point(lr, seed), value, (3.0, value), diverged, STEPS, 3.0 + seed)


def swept(where, best, seeds=(0, 1)):
    trials = tuple(record(where, lr, seed, best) for lr in GRID for seed in seeds)
    return SizeResult(where, trials, size_optimum(trials))


BESTS = {size(depth=1): 0.5, size(depth=2): 0.25, size(depth=4): 0.1}


@pytest.fixture
def tuned():
    return [swept(where, best) for where, best in BESTS.items()]


def trainer(asked, *, diverges_at=()):
    def train(where, lrs):
        asked[where] = lrs
        best = BESTS[where]
        return tuple(
            record(where, lr, seed, best, diverged=lr in diverges_at)
            for lr in lrs
            for seed in (0, 1)
        )

    return train


def test_rates_are_proposed_from_the_bases_alone(small_family, tuned):
    family = small_family()
    results = {one.size: one for one in tuned}
    offers = {offer.label: offer for offer in proposals(family, results, size(depth=4))}
    del results[size(depth=4)]
    assert {o.label: o for o in proposals(family, results, size(depth=4))} == offers
    depths = [
        network_architecture(family.network, size(depth=d)).report.effective_depth for d in (1, 4)
    ]
    assert depths == [3, 6]
    assert offers["constant"].lr == pytest.approx(0.5, rel=1e-5)
    assert offers["effective-depth"].lr == pytest.approx(0.5 * 2**-1.5, rel=1e-5)
    assert offers["fitted-2"].bases == (size(depth=1), size(depth=2))


def test_a_rule_costs_the_tuning_of_its_bases(small_family, tuned):
    results = {one.size: one for one in tuned}
    offers = proposals(small_family(), results, size(depth=4))
    costs = {offer.label: offer.cost_steps for offer in offers}
    one_size = len(GRID) * 2 * STEPS
    assert costs == {
        "constant": one_size,
        "effective-depth": one_size,
        "fitted-2": 2 * one_size,
    }


def test_no_rule_is_asked_about_its_own_bases(small_family, tuned):
    family = small_family(rules=("constant", "fitted-2", "fitted-3"))
    results = {one.size: one for one in tuned}
    labels = {o.label for o in proposals(family, results, size(depth=2))}
    assert labels == {"constant"}


def test_regret_is_loss_at_the_rate_minus_loss_at_the_own_optimum(small_family, tuned):
    asked = {}
    rows, runs = transfer_family(small_family(), tuned, trainer(asked))
    by_rule = {row.rule: row for row in rows}
    constant = by_rule["constant"]
    best = constant.reference_lr
    assert best == pytest.approx(0.1, rel=1e-5)
    expected = loss(0.5, 0.1, 0) - loss(best, 0.1, 0)
    assert constant.regret.regret == pytest.approx(expected, rel=1e-4)
    gained = 3.5 - (loss(best, 0.1, 0) + loss(best, 0.1, 1)) / 2
    assert constant.regret.relative == pytest.approx(expected / gained, rel=1e-4)
    assert constant.ratio == 4.0
    assert set(asked) == {size(depth=4)}
    assert {run.point.lr for run in runs} == set(asked[size(depth=4)])


def test_rates_that_the_sweep_has_are_not_trained_again(small_family, tuned):
    asked = {}
    on_grid = [swept(size(depth=1), GRID[5]), *tuned[1:]]
    assert on_grid[0].optimum.lr == pytest.approx(GRID[5])
    rows, _ = transfer_family(small_family(rules=("constant",)), on_grid, trainer(asked))
    assert GRID[5] not in asked[size(depth=4)]
    assert rows[0].lr == GRID[5]


def test_a_rate_of_the_sweep_without_all_seeds_is_trained(small_family, tuned):
    asked = {}
    found = tuned[2]
    lacking = tuple(t for t in found.trials if t.point != Point(GRID[5], 1))
    on_grid = [swept(size(depth=1), GRID[5]), tuned[1], replace(found, trials=lacking)]
    transfer_family(small_family(rules=("constant",)), on_grid, trainer(asked))
    assert GRID[5] in asked[size(depth=4)]


def test_a_diverged_rate_has_infinite_regret_and_says_so(small_family, tuned):
    rows, _ = transfer_family(small_family(), tuned, trainer({}, diverges_at=(0.5,)))
    found = {row.rule: row for row in rows}["constant"]
    assert found.regret.regret == np.inf
    assert found.as_dict()["diverged"] is True
    assert found.as_dict()["relative"] is None
    assert found.as_dict()["loss"] is None


def test_where_the_parabolas_minimum_diverges_the_lowest_rate_is_the_optimum(small_family, tuned):
    own = float(f"{tuned[2].optimum.lr:.6g}")
    rows, _ = transfer_family(small_family(), tuned, trainer({}, diverges_at=(own,)))
    assert {row.reference_lr for row in rows} == {tuned[2].optimum.lowest_lr}


def test_a_target_without_an_optimum_has_no_rows(small_family, tuned):
    none = SizeResult(size(depth=4), (), None)
    assert transfer_family(small_family(), [*tuned[:2], none], trainer({})) == ((), ())


def test_a_base_without_an_optimum_answers_no_rule(small_family, tuned):
    none = SizeResult(size(depth=1), (), None)
    family = small_family(rules=("constant", "fitted-2"))
    assert transfer_family(family, [none, *tuned[1:]], trainer({}))[0] == ()


def test_a_parametrization_has_its_own_rule_under_the_laws_name(small_family):
    base = size(depth=1)
    chosen = small_family(parametrization=Parametrization("complete-p", base=base))
    assert [label for label, _ in rules_of(chosen)] == ["complete-p"]
    wide = small_family(parametrization=Parametrization("constant", base=base, width="mup"))
    assert [label for label, _ in rules_of(wide)] == [
        "constant+mup",
        "effective-depth+mup",
        "fitted-2+mup",
    ]


@pytest.mark.parametrize("answer", [np.inf, 0.0])
def test_an_answer_that_is_no_rate_is_not_trained_and_counts_as_diverged(
    small_family, tuned, monkeypatch, answer
):
    monkeypatch.setattr("studies.rules.computed.ByLaw.rate", lambda *_: answer)
    asked = {}
    rows, runs = transfer_family(small_family(), tuned, trainer(asked))
    assert all(0 < lr < np.inf for lrs in asked.values() for lr in lrs)
    assert all(run.steps > 0 for run in runs)
    by_rule = {row.rule: row for row in rows if row.target == size(depth=4)}
    assert by_rule["effective-depth"].loss == np.inf
    assert np.isfinite(by_rule["fitted-2"].loss)
