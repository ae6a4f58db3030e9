"""A plan's interval as Optuna's search range."""

import math

import optuna
import pytest
import torch
from torch import nn

from etastar.errors import PlanError
from etastar.integrations.optuna import suggest_lr
from etastar.transfer import Tuned, plan_transfer

optuna.logging.set_verbosity(optuna.logging.WARNING)


def residual(depth):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = x + block(x).relu()
            return self.head(x)

    return Net()


def chain(depth):
    return nn.Sequential(nn.Linear(4, 8), *[nn.Linear(8, 8) for _ in range(depth)], nn.Linear(8, 2))


@pytest.mark.parametrize("make", [residual, chain])
def test_rates_are_drawn_out_of_the_interval_on_a_logarithmic_scale(make):
    x = torch.zeros(1, 4)
    plan = plan_transfer(Tuned((make(2), x), 0.01), (make(9), x), optimizer="adamw")
    low, high = plan.lr_interval
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"lr": plan.lr})
    rates = [suggest_lr(study.ask(), plan) for _ in range(60)]
    assert rates[0] == plan.lr
    assert all(low <= rate <= high for rate in rates)
    middle = math.sqrt(low * high)
    assert 20 <= sum(rate < middle for rate in rates[1:]) <= 40


def test_a_plan_without_an_interval_is_refused():
    x = torch.zeros(1, 4)
    plan = plan_transfer(
        Tuned((chain(2), x), 0.01), (chain(9), x), optimizer="adamw", law="constant"
    )
    with pytest.raises(PlanError, match="no interval"):
        suggest_lr(optuna.create_study().ask(), plan)
