"""Tuning: as many sizes as the target's rate needs, no more than the budget, from where it was."""

from functools import cache
from math import inf, log

import numpy as np
import pytest
import torch
from torch import nn

from etastar.errors import EtastarError, LawError, OptimizerError, StorageError, TrialError
from etastar.optimizers import optimizer_like
from etastar.sweep import Bracket, Recipe, run_sweep, tune
from etastar.sweep.executors import Executor
from etastar.sweep.storage import MemoryStore
from etastar.sweep.trial import TrialRecord
from etastar.sweep.tune_result import reach
from etastar.transfer import FitSizes, Tuned, plan_transfer

STEPS, WIDTH = 5, 4
BASES = [{"depth": 2}, {"depth": 4}, {"depth": 8}]
TARGET = {"depth": 24}


def optimal_lr(depth):
    return 0.6 * depth**-1.0


class Parabolas(Executor):
    """Runs nothing: the loss is a parabola in log lr around `optimal_lr`; counts its points."""

    max_points = 2

    def __init__(self, stop_after=inf, sharpness=1.0, noise=0.01):
        self.ran, self.stop_after = [], stop_after
        self.sharpness, self.noise = sharpness, noise

    def run(self, recipe, size, points):
        for point in points:
            if len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            self.ran.append((size, point))
            away = log(point.lr / optimal_lr(dict(size)["depth"]))
            noise = self.noise * np.random.default_rng([point.seed, int(1e6 * point.lr)]).normal()
            loss = 1 + self.sharpness * away**2 + noise
            yield TrialRecord(size, point, loss, (2.0, loss), False, STEPS, 2.0)


def chain(depth, width=WIDTH):
    return nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])


def sgd(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr)


def recipe(make_model=chain, make_optimizer=sgd, **changes):
    plain = {
        "make_model": make_model,
        "batches": lambda seed: [(torch.ones(4, WIDTH), torch.zeros(4, WIDTH))] * STEPS,
        "loss_fn": nn.functional.mse_loss,
        "make_optimizer": make_optimizer,
        "num_steps": STEPS,
        "batch_size": 4,
    }
    return Recipe(**{**plain, **changes})


def tuned(bases=BASES, target=TARGET, executor=None, **options):
    given = {"search": Bracket(start=0.3), "law": "fitted", "budget": 1e6, **options}
    subject = given.pop("recipe", recipe())
    return tune(subject, bases, target, workers=executor or Parabolas(), **given)


@cache
def all_three():
    return tuned(precision=1.01)


def sizes_of(result):
    return [dict(one.size)["depth"] for one in result.sweep.sizes]


def test_the_plan_is_that_of_the_optima_with_their_own_precision():
    result = all_three()
    bases = [
        Tuned((chain(d), torch.ones(4, WIDTH)), best.lr, log_lr_sd=best.log_lr_sd)
        for d, best in zip((2, 4, 8), result.sweep.optima.values(), strict=True)
    ]
    plan = plan_transfer(bases, (chain(24), torch.ones(4, WIDTH)), optimizer="sgd", law="fitted")
    assert result.plan.lr == pytest.approx(plan.lr)
    assert result.plan.base.log_lr_sd == bases[-1].log_lr_sd
    assert (result.plan.base.batch_size, result.plan.base.num_steps) == (4, STEPS)


def test_the_rate_of_a_known_power_law_is_found():
    result = tuned([{"depth": 2}, {"depth": 12}], law=FitSizes(), precision=1.01)
    assert result.plan.lr == pytest.approx(optimal_lr(24), rel=0.15)
    low, high = result.interval
    assert low < optimal_lr(24) < high


@pytest.mark.parametrize(("precision", "depths"), [(20.0, [2]), (5.0, [2, 4]), (1.01, [2, 4, 8])])
def test_sizes_are_added_until_the_interval_is_narrow_enough(precision, depths):
    result = tuned(precision=precision)
    assert sizes_of(result) == depths
    assert result.stop == ("no further size" if precision == 1.01 else "precise")
    assert (result.factor <= precision) == (result.stop == "precise")
    assert result.factor == reach(result.interval)


def test_bases_are_tuned_in_the_order_of_their_cost_whatever_order_they_are_given_in():
    executor = Parabolas()
    result = tuned(list(reversed(BASES)), executor=executor, precision=1.01)
    assert sizes_of(result) == [2, 4, 8]
    assert result.plan == all_three().plan


def test_the_cost_is_steps_times_parameters_over_those_of_one_target_run():
    result = all_three()
    spent = sum(size.steps * dict(size.size)["depth"] for size in result.sweep.sizes)
    assert result.cost == pytest.approx(spent / (STEPS * 24))
    assert result.sweep.steps == STEPS * len(result.sweep.trials)


def test_a_size_that_would_pass_the_budget_is_not_begun():
    first, second, _ = (
        one.steps * dict(one.size)["depth"] / (STEPS * 24) for one in all_three().sweep.sizes
    )
    assert second <= 2 * first  # as many steps as the first took, times the parameters
    enough = tuned(precision=1.01, budget=3 * first + 1e-9)
    assert (sizes_of(enough), enough.stop) == ([2, 4], "budget")
    executor = Parabolas()
    less = tuned(precision=1.01, budget=3 * first - 1e-9, executor=executor)
    assert (sizes_of(less), less.stop) == ([2], "budget")
    assert {size for size, _ in executor.ran} == {(("depth", 2),)}
    assert less.cost <= 3 * first
    assert dict(less.further.size) == {"depth": 4}
    assert less.further.cost == pytest.approx(2 * first)


def test_the_first_size_is_tuned_whatever_it_costs():
    result = tuned(budget=1e-9, precision=1.01)
    assert (sizes_of(result), result.stop) == ([2], "budget")
    assert result.cost > 1e-9


def test_what_more_would_bring_is_what_it_then_brings():
    one, two = tuned(precision=20.0), tuned(precision=5.0)
    assert dict(one.further.size) == {"depth": 4}
    assert one.further.factor == pytest.approx(two.factor, rel=0.02)
    assert one.further.factor < one.factor


def test_beyond_the_bases_the_next_size_is_the_last_one_doubled_below_the_target():
    assert dict(all_three().further.size) == {"depth": 16}
    assert tuned(BASES[1:], {"depth": 16}, precision=1.01).further is None
    assert dict(tuned(BASES[:2], {"depth": 9}, precision=1.01).further.size) == {"depth": 8}


def test_no_further_size_is_named_where_the_recipe_cannot_make_it():
    def only(depth):
        if depth == 16:
            raise ValueError("no such depth")
        return chain(depth)

    assert tuned(recipe=recipe(only), precision=1.01).further is None


@pytest.mark.parametrize("stop_after", [0, 3, 8, 9, 14])
def test_tuning_that_was_stopped_goes_on_and_comes_to_the_same_result(tmp_path, stop_after):
    alone = all_three()
    assert len(alone.sweep.trials) > stop_after
    first, second, third = Parabolas(stop_after), Parabolas(), Parabolas()
    given = {"precision": 1.01, "storage": tmp_path / "runs.log"}
    with pytest.raises(KeyboardInterrupt):
        tuned(executor=first, **given)
    resumed = tuned(executor=second, **given)
    assert resumed == alone
    assert resumed.as_dict() == alone.as_dict()
    points = [(trial.size, trial.point) for trial in alone.sweep.trials]
    assert sorted(first.ran + second.ran) == sorted(points)
    assert tuned(executor=third, **given) == alone
    assert third.ran == []


def test_the_runs_are_those_of_a_sweep_of_the_same_sizes():
    store = MemoryStore()
    options = {"search": Bracket(start=0.3), "storage": store}
    sweep = run_sweep(recipe(), BASES[:2], workers=Parabolas(), **options)
    assert len(sweep.sizes) == 2
    executor = Parabolas()
    result = tuned(executor=executor, precision=5.0, **options)
    assert executor.ran == []
    assert result.sweep == sweep


def test_every_network_is_built_before_the_first_run_and_a_large_target_not_allocated(monkeypatch):
    from etastar.sweep import tuning

    devices = []

    def watched(depth):
        model = chain(depth)
        devices.append((depth, next(model.parameters()).device.type))
        return model

    tuned(BASES[:1], recipe=recipe(watched))
    assert devices[:3] == [(2, "cpu"), (24, "meta"), (24, "cpu")]
    devices.clear()
    monkeypatch.setattr(tuning, "_ALLOCATED", 100)
    assert tuned(BASES[:1], recipe=recipe(watched)).plan.target_depth == 24
    assert (24, "cpu") not in devices


def test_a_target_whose_code_needs_values_is_built_with_them(monkeypatch):
    from etastar.sweep import tuning

    def needs_values(depth):
        model = chain(depth)
        model[0].scale = model[0].weight.abs().max().item()
        return model

    monkeypatch.setattr(tuning, "_ALLOCATED", 100)
    assert tuned(BASES[:1], recipe=recipe(needs_values)).plan.target_depth == 24


def test_the_plan_has_the_settings_of_the_recipe_s_own_optimizer():
    def own(model, lr, **size):
        weights = [p for p in model.parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": weights, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=2 * lr, betas=(0.9, 0.95), eps=1e-6)

    result = tuned(recipe=recipe(make_optimizer=own), law="constant")
    plan, best = result.plan, result.sweep.sizes[-1].optimum
    assert plan.base.lr == pytest.approx(2 * best.lr)  # the rate that the optimizer has
    decays = {p.name.rpartition(".")[2]: p.weight_decay for p in plan.parameters}
    assert decays == {"weight": 0.1, "bias": 0.0}
    assert {(p.betas, p.eps) for p in plan.parameters} == {((0.9, 0.95), 1e-6)}


def test_an_optimizer_of_no_known_kind_is_declared_and_its_settings_are_kept():
    class Own(torch.optim.NAdam):
        pass

    def own(model, lr, **size):
        return Own(model.parameters(), lr, betas=(0.8, 0.9), weight_decay=0.01)

    executor = Parabolas()
    with pytest.raises(OptimizerError, match="Own"):
        tuned(recipe=recipe(make_optimizer=own), executor=executor)
    assert executor.ran == []
    kind = optimizer_like(Own, "adam", decoupled_weight_decay=False)
    plan = tuned(recipe=recipe(make_optimizer=own), optimizer=kind).plan
    assert {(p.betas, p.weight_decay) for p in plan.parameters} == {((0.8, 0.9), 0.01)}


def other(depth):
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *([nn.Bilinear(4, 4, 4)] * (depth > 2)))


BAD = {
    "no recipe": ({"recipe": 3}, TrialError, "a Recipe"),
    "no base": ({"bases": []}, TrialError, "one base or more"),
    "one size, not a list": ({"bases": {"depth": 2}}, TrialError, "one base or more"),
    "a base twice": ({"bases": [BASES[0], BASES[0]]}, TrialError, "each once"),
    "target among the bases": ({"target": BASES[0]}, TrialError, "none of them the target"),
    "other names": ({"target": {"depth": 24, "width": 4}}, TrialError, "the target's names"),
    "precision of 1": ({"precision": 1.0}, TrialError, "precision=1.0"),
    "no budget": ({"budget": 0.0}, TrialError, "budget=0.0"),
    "unknown law": ({"law": "warp"}, LawError, "warp"),
    "other architecture": ({"recipe": recipe(other)}, EtastarError, "1"),
    "a model that raises": ({"recipe": recipe(lambda depth: 1 / 0)}, TrialError, "ZeroDivision"),
    "no seeds": ({"seeds": 0}, TrialError, "seeds=0"),
    "another store": ({"storage": 3}, StorageError, "storage=3"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_is_refused_before_the_first_run(case):
    given, kind, message = BAD[case]
    executor = Parabolas()
    with pytest.raises(kind, match=message):
        tuned(executor=executor, **given)
    assert executor.ran == []


def test_sizes_whose_optimum_is_at_the_edge_count_for_nothing():
    rates = [0.07, 0.14, 0.28]  # of depth 4 within, of depth 11 not far enough within
    result = tuned([{"depth": 4}, {"depth": 11}], search=rates, precision=1.01)
    assert [one.flags for one in result.sweep.sizes] == [(), ("edge",)]
    assert result.plan.base.lr == pytest.approx(0.15, rel=0.05)
    with pytest.raises(TrialError, match=r"no size with an optimum .*depth=11: edge"):
        tuned([{"depth": 11}], search=rates)


def test_the_result_shows_itself_in_80_columns_and_as_json():
    import json

    result = tuned(precision=5.0)
    shown = str(result)
    assert max(map(len, shown.splitlines())) <= 80
    text = " ".join(shown.split())
    for part in ("depth=24: lr", "expected within", "one target run", "to know more: depth=8"):
        assert part in text
    data = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert data["stop"] == "precise"
    assert data["plan"]["lr"] == result.plan.lr
    assert data["further"]["size"] == {"depth": 8}


def test_progress_has_the_cost_so_far_and_the_cost_to_be_expected():
    seen = []
    result = tuned(precision=1.01, on_progress=seen.append)
    costs = [one.cost for one in seen]
    assert costs == sorted(costs)
    assert costs[-1] == pytest.approx(result.cost)
    assert all(one.expected >= one.cost * 0.99 for one in seen)
    assert seen[0].expected > seen[-1].cost / 2


def test_the_interval_from_one_seed_knows_how_coarse_the_rates_were():
    reaches = []
    for factor, shift in ((10, 0.55), (10, 0.95), (1.5, 0.5)):
        rates = [0.6 * factor ** (k + shift) for k in range(-8, 8)]
        given = {"workers": Parabolas(noise=0.0), "seeds": 1, "search": rates, "budget": 9.0}
        result = tune(recipe(), BASES[:1], {"depth": 3}, **given)
        low, high = result.interval
        assert low < optimal_lr(3) < high
        reaches.append(reach(result.interval))
    assert reaches[0] == reaches[1] > 5 > 2.5 > reaches[2]
