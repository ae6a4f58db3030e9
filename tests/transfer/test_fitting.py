"""The law fitted through tuned networks, and plans made with it."""

import pytest
import torch
from torch import nn

from etastar.errors import FitError, LawError, PlanError
from etastar.laws import EffectiveDepth
from etastar.transfer import TransferPlan, fit_tuned, plan_transfer


def net(depth, width=8):
    layers = [nn.Linear(4, width), *(nn.Linear(width, width) for _ in range(depth - 2))]
    return nn.Sequential(*layers, nn.Linear(width, 2)), (torch.zeros(1, 4),)


def test_one_base_is_the_effective_depth_law():
    fitted = plan_transfer(target=net(16), bases=[(net(4), 0.1)], optimizer="sgd")
    law = plan_transfer(net(4), net(16), lr=0.1, optimizer="sgd")
    assert fitted.lr == pytest.approx(law.lr)
    assert fitted.laws[0].name == "fitted"


def test_many_bases_follow_the_data():
    bases = [(net(depth), 0.5 / depth, 1e-6) for depth in (4, 8, 16)]
    fit = fit_tuned(bases, noise=1e-3)
    assert fit.law.exponent == pytest.approx(-1.0, abs=1e-4)
    assert fit.lr == 0.5 / 16
    plan = plan_transfer(target=net(32), bases=[b[:2] for b in bases], optimizer="sgd")
    assert pytest.approx(plan.lr, rel=0.1) == 0.5 / 32


def test_the_line_not_the_last_point_is_carried_over():
    lrs = {4: 0.1, 8: 0.08, 16: 0.02}
    fit = fit_tuned([(net(d), lr) for d, lr in lrs.items()])
    plan = plan_transfer(
        target=net(64), bases=[(net(d), lr) for d, lr in lrs.items()], optimizer="sgd"
    )
    assert plan.lr == pytest.approx(fit.posterior.predict(64))
    assert fit.law.log_offset != 0.0


def test_at_the_deepest_base_its_tuned_rate_stays():
    plan = plan_transfer(target=net(8), bases=[(net(4), 0.1), (net(8), 0.2)], optimizer="sgd")
    assert plan.lr == 0.2
    assert len(plan.groups) == 1


def test_width_is_carried_by_the_width_rule():
    bases = [(net(4), 0.1), (net(8), 0.05)]
    narrow = plan_transfer(target=net(16), bases=bases, optimizer="adam")
    wide = plan_transfer(target=net(16, 32), bases=bases, optimizer="adam")
    assert wide.lr == pytest.approx(narrow.lr / 4)


def test_the_plan_holds_the_interval_and_survives_a_round_trip():
    plan = plan_transfer(target=net(16), bases=[(net(4), 0.1), (net(8), 0.05)], optimizer="adamw")
    assert "predictive interval" in plan.notes[-1]
    assert TransferPlan.from_json(plan.to_json()) == plan
    assert dict(plan.laws[0].options)["exponent_sd"] > 0


def test_prior_and_its_width():
    steep = fit_tuned([(net(4), 0.1)], prior=EffectiveDepth(exponent=-0.5))
    assert steep.law.exponent == -0.5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"bases": []}, PlanError),
        ({"bases": [net(4)[0]]}, PlanError),
        ({"bases": [(net(4), "0.1")]}, FitError),
        ({"bases": [(net(4), -0.1)]}, FitError),
        ({"bases": [(net(4), 0.1), (net(4, 16), 0.1)]}, LawError),
        ({"bases": [(net(4), 0.1)], "lr": 0.1}, PlanError),
        ({"bases": [(net(4), 0.1)], "base": net(4)}, PlanError),
        ({"bases": [(net(4), 0.1)], "law": "complete-p"}, PlanError),
        ({"base": net(4), "lr": 0.1, "law": "fitted"}, LawError),
        ({"base": net(4)}, PlanError),
        ({"lr": 0.1}, PlanError),
    ],
)
def test_bad_input(arguments, error):
    with pytest.raises(error):
        plan_transfer(target=net(8), optimizer="sgd", **arguments)


def test_a_target_is_needed():
    with pytest.raises(PlanError, match="no target"):
        plan_transfer(net(4), lr=0.1, optimizer="sgd")
