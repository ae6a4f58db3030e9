"""Optimizers that differ from a plan are found, parameter by parameter."""

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as lrs

from etastar.errors import PlanError
from etastar.integrations.comparing import compare_groups
from etastar.transfer import Tuned, plan_transfer, schedule_arguments


def mlp(width):
    return nn.Sequential(nn.Linear(6, width), nn.Linear(width, width), nn.Linear(width, 3))


def normed(width):
    return nn.Sequential(nn.Linear(6, width), nn.LayerNorm(width), nn.Linear(width, 3))


@pytest.fixture(params=[mlp, normed])
def ready(request):
    torch.manual_seed(0)
    example = torch.zeros(2, 6)
    base, model = request.param(8), request.param(32)
    tuned = Tuned((base, example), 0.01, weight_decay=0.1, betas=(0.9, 0.95))
    plan = plan_transfer(tuned, (model, example), optimizer="adamw")
    plan.rescale_(model)
    return model, plan


SCHEDULES = {
    "none": lambda o: None,
    "cosine": lambda o: lrs.CosineAnnealingLR(o, 5),
    "one cycle": lambda o: lrs.OneCycleLR(
        o, **schedule_arguments(lrs.OneCycleLR, o, max_lr=0.01, total_steps=9)
    ),
    "plateau": lambda o: lrs.ReduceLROnPlateau(o, patience=0),
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_a_plans_own_groups_pass_at_any_step(ready, make):
    model, plan = ready
    optimizer = torch.optim.AdamW(plan.param_groups(model))
    schedule = make(optimizer)
    for _ in range(3):
        compare_groups([optimizer], plan.param_groups(model), model)
        optimizer.step()
        if schedule is not None:
            schedule.step(*([1.0] if isinstance(schedule, lrs.ReduceLROnPlateau) else []))


CHANGES = {
    "has weight_decay 0.7": lambda groups: groups[0].update(weight_decay=0.7),
    "has betas (0.5, 0.5)": lambda groups: groups[0].update(betas=(0.5, 0.5)),
    "has lr 0.7": lambda groups: groups[0].update(initial_lr=0.7),
    "'0.weight' is in no group": lambda groups: groups[0]["params"].pop(0),
    "is in two groups": lambda groups: groups[1]["params"].append(groups[0]["params"][0]),
}


@pytest.mark.parametrize("found", CHANGES)
def test_what_differs_is_named(ready, found):
    model, plan = ready
    optimizer = torch.optim.AdamW(plan.param_groups(model))
    lrs.CosineAnnealingLR(optimizer, 5)
    CHANGES[found](optimizer.param_groups)
    with pytest.raises(PlanError) as error:
        compare_groups([optimizer], plan.param_groups(model), model)
    assert found in str(error.value)


def test_an_optimizer_without_groups_of_the_plan_is_refused(ready):
    model, plan = ready
    with pytest.raises(PlanError, match="has lr_multiplier None"):
        compare_groups([torch.optim.AdamW(model.parameters())], plan.param_groups(model), model)
