"""Freezing, thawing, averages of weights and accumulated gradients do not meet a plan."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

from etastar.errors import PlanError, ScheduleError
from etastar.models import build
from etastar.transfer import (
    Tuned,
    check_schedule,
    plan_transfer,
    schedule_arguments,
    warmup_cosine,
)


def normed(depth, width):
    hidden = [m for _ in range(depth) for m in (nn.Linear(width, width), nn.BatchNorm1d(width))]
    return nn.Sequential(nn.Linear(6, width), *hidden, nn.Linear(width, 3))


def residual(depth, width):
    return build("resmlp", depth=depth, width=width, in_features=6)


MAKES = [normed, residual]


def planned(make, **settings):
    torch.manual_seed(0)
    example = torch.zeros(4, 6)
    tuned = Tuned((make(2, 16), example), 1e-2, weight_decay=0.1)
    model = make(4, 32)
    plan = plan_transfer(tuned, (model, example), optimizer="adamw", law="complete-p", **settings)
    plan.rescale_(model)
    return plan, model


def step(model, optimizer, *parts):
    """One step on the mean loss over parts of a batch."""
    optimizer.zero_grad()
    for part in parts:
        (model(part).square().mean() / len(parts)).backward()
    optimizer.step()


def rates_of(optimizer, model):
    by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id.get(id(p)) for name, p in model.named_parameters()}


@pytest.mark.parametrize("make", MAKES)
def test_what_is_frozen_after_the_groups_were_made_thaws_by_itself(make):
    plan, model = planned(make)
    optimizer = torch.optim.AdamW(plan.param_groups(model))
    schedule = warmup_cosine(optimizer, 20)
    first = next(model.parameters()).requires_grad_(False)
    before = first.detach().clone()
    for _ in range(3):
        step(model, optimizer, torch.randn(4, 6))
        schedule.step()
    assert torch.equal(first, before)  # no decay either
    first.requires_grad_(True)
    step(model, optimizer, torch.randn(4, 6))
    assert not torch.equal(first, before)
    assert check_schedule(schedule) > 0


@pytest.mark.parametrize("make", MAKES)
def test_thawed_parameters_get_the_plans_rates_and_a_schedule_made_anew(make):
    plan, model = planned(make)
    first = next(model.parameters()).requires_grad_(False)
    optimizer = torch.optim.AdamW(plan.param_groups(model))
    schedule = warmup_cosine(optimizer, 20)
    for _ in range(3):
        step(model, optimizer, torch.randn(4, 6))
        schedule.step()
    first.requires_grad_(True)
    for group in plan.param_groups(model, groups=[{"params": [first]}], from_checkpoint=True):
        optimizer.add_param_group(group)
    with pytest.raises(ScheduleError, match="changes the ratios"):
        check_schedule(schedule)  # it knows the old groups alone
    optimizer = torch.optim.AdamW(plan.param_groups(model, from_checkpoint=True))
    check_schedule(warmup_cosine(optimizer, 20))
    planned_rates = {entry.name: entry.lr for entry in plan.parameters}
    optimizer = torch.optim.AdamW(plan.param_groups(model, from_checkpoint=True))
    assert rates_of(optimizer, model) == pytest.approx(planned_rates)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("how", [None, get_ema_multi_avg_fn(0.9)], ids=["swa", "ema"])
def test_averages_are_those_of_the_planned_run(make, how):
    plan, model = planned(make)
    averaged = AveragedModel(model, multi_avg_fn=how)
    optimizer = torch.optim.AdamW(plan.param_groups(model))
    schedule = SWALR(
        optimizer, **schedule_arguments(SWALR, optimizer, swa_lr=0.005, anneal_epochs=4)
    )
    check_schedule(schedule)
    seen = []
    for _ in range(5):
        step(model, optimizer, torch.randn(8, 6))
        schedule.step()
        averaged.update_parameters(model)
        seen.append([p.detach().clone() for p in model.parameters()])
    weights = [0.2] * 5 if how is None else [0.9**4, *(0.1 * 0.9 ** (3 - n) for n in range(4))]
    expected = [
        sum(w * p for w, p in zip(weights, own, strict=True)) for own in zip(*seen, strict=True)
    ]
    torch.testing.assert_close(list(averaged.parameters()), expected)
    update_bn([torch.randn(8, 6)], averaged)
    groups = plan.param_groups(averaged, from_checkpoint=True)  # fine-tuned from the average
    assert sum(len(g["params"]) for g in groups) == len(expected)
    assert rates_of(torch.optim.AdamW(groups), averaged.module) == pytest.approx(
        {entry.name: entry.lr for entry in plan.parameters}
    )
    with pytest.raises(PlanError, match="rescaled by a plan before"):
        plan.rescale_(AveragedModel(planned(make)[1]))


@pytest.mark.parametrize("make", [residual, lambda d, w: normed(d, w).eval()])
def test_accumulated_gradients_step_like_the_whole_batch(make):
    batches, ended = torch.randn(5, 8, 6, dtype=torch.float64), []
    for parts in (1, 4):
        plan, model = planned(make)
        model.double()
        optimizer = torch.optim.AdamW(plan.param_groups(model, from_checkpoint=True))
        schedule = warmup_cosine(optimizer, 5)
        for batch in batches:
            step(model, optimizer, *batch.chunk(parts))
            schedule.step()
        ended.append(list(model.parameters()))
    torch.testing.assert_close(*ended, rtol=1e-9, atol=1e-12)
