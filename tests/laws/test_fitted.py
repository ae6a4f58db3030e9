"""The law fitted through tuned networks, and plans made with it."""

import pytest
import torch
from torch import nn

from etastar.errors import LawError, PlanError
from etastar.laws import TunedPoint
from etastar.transfer import (
    FitSizes,
    TransferPlan,
    Tuned,
    plan_transfer,
    read_architecture,
)


def net(depth, width=8):
    layers = [nn.Linear(4, width), *(nn.Linear(width, width) for _ in range(depth - 2))]
    return nn.Sequential(*layers, nn.Linear(width, 2)), (torch.zeros(1, 4),)


def tuned(lrs, **settings):
    return [Tuned(net(depth), lr, **settings) for depth, lr in lrs.items()]


def point(depth, lr, sd=None):
    return TunedPoint(read_architecture(net(depth)), lr, sd)


def test_one_base_is_the_effective_depth_law():
    fitted = plan_transfer(tuned({4: 0.1}), net(16), optimizer="sgd", law="fitted")
    law = plan_transfer(Tuned(net(4), 0.1), net(16), optimizer="sgd", law="effective-depth")
    assert fitted.lr == pytest.approx(law.lr)
    assert fitted.laws[0].name == "fitted"


def test_many_bases_follow_the_data():
    lrs = {depth: 0.5 / depth for depth in (4, 8, 16)}
    fit = FitSizes().posterior([point(d, lr) for d, lr in lrs.items()])
    assert fit.exponent == pytest.approx(-1.0, abs=0.05)
    plan = plan_transfer(tuned(lrs), net(32), optimizer="sgd")
    assert plan.laws[0].name == "fitted"
    assert plan.base.lr == 0.5 / 16
    assert pytest.approx(plan.lr, rel=0.1) == 0.5 / 32


def test_the_line_not_the_last_point_is_carried_over():
    lrs = {4: 0.1, 8: 0.08, 16: 0.02}
    fit = FitSizes().posterior([point(d, lr) for d, lr in lrs.items()])
    plan = plan_transfer(tuned(lrs), net(64), optimizer="sgd", law="fitted")
    assert plan.lr == pytest.approx(fit.predict(64))
    assert plan.lr_interval == pytest.approx(fit.interval(64))
    assert dict(plan.laws[0].options)["log_offset"] != 0.0


def test_the_order_of_the_bases_does_not_matter():
    lrs = {4: 0.1, 8: 0.08, 16: 0.02}
    plans = [
        plan_transfer(bases, net(64), optimizer="sgd")
        for bases in (tuned(lrs), tuned(lrs)[::-1], tuple(tuned(lrs)))
    ]
    assert plans[0].base == plans[1].base == plans[2].base
    assert [p.lr for p in plans] == [pytest.approx(plans[0].lr)] * 3


def test_the_sd_of_a_tuned_rate_is_read():
    sure, unsure = (
        plan_transfer(tuned({4: 0.1, 8: 0.08}, log_lr_sd=sd), net(32), optimizer="sgd")
        for sd in (0.01, 1.0)
    )
    assert unsure.lr != pytest.approx(sure.lr)
    assert sure.base.log_lr_sd == 0.01


def test_at_the_deepest_base_its_tuned_rate_stays():
    plan = plan_transfer(tuned({4: 0.1, 8: 0.2}), net(8), optimizer="sgd")
    assert plan.lr == 0.2
    assert len(plan.groups) == 1


def test_width_is_carried_by_the_width_rule():
    bases = tuned({4: 0.1, 8: 0.05})
    narrow = plan_transfer(bases, net(16), optimizer="adam")
    wide = plan_transfer(bases, net(16, 32), optimizer="adam")
    assert wide.lr == pytest.approx(narrow.lr / 4)


def test_the_plan_holds_the_interval_and_survives_a_round_trip():
    plan = plan_transfer(tuned({4: 0.1, 8: 0.05}), net(16), optimizer="adamw", law="fitted")
    low, high = plan.lr_interval
    assert low < plan.lr < high
    assert plan.notes[0] == "fitted: exponent -1.136 +- 0.261"
    assert TransferPlan.from_json(plan.to_json()) == plan
    assert dict(plan.laws[0].options)["exponent_sd"] > 0


@pytest.mark.parametrize("law", ["effective-depth", "constant", "path-sum"])
def test_a_law_that_is_asked_for_with_several_bases_is_kept_and_says_where_it_starts(law):
    bases = tuned({4: 0.1, 16: 0.04, 8: 0.05})
    plan = plan_transfer(bases, net(32), optimizer="sgd", law=law)
    alone = plan_transfer(Tuned(net(16), 0.04), net(32), optimizer="sgd", law=law)
    assert plan.laws == alone.laws
    assert plan.parameters == alone.parameters
    assert "3 tuned networks: the law starts from the deepest, effective depth 16" in plan.notes[0]
    assert not any("tuned networks" in note for note in alone.notes)


@pytest.mark.parametrize("base", [3, None, [], [net(4)[0]], [(net(4), 0.1)], net(4), "x", [3]])
def test_what_is_no_tuned_network_is_refused(base):
    with pytest.raises(PlanError, match=r"Tuned\(network, lr\)"):
        plan_transfer(base, net(8), optimizer="sgd")


@pytest.mark.parametrize("setting", [{"weight_decay": 0.1}, {"batch_size": 8}, {"num_steps": 9}])
def test_bases_that_differ_in_a_setting_are_refused(setting):
    bases = [Tuned(net(4), 0.1), Tuned(net(8), 0.1, **setting)]
    with pytest.raises(PlanError, match=f"differ in {next(iter(setting))}"):
        plan_transfer(bases, net(16), optimizer="sgd")


def test_bases_of_two_widths_are_refused():
    with pytest.raises(LawError, match="width"):
        plan_transfer([Tuned(net(4), 0.1), Tuned(net(8, 16), 0.1)], net(16), optimizer="sgd")
