"""The commonest schedule in one line, and schedules of transformers on a plan's groups."""

import math

import pytest
import torch
from transformers import optimization

from etastar.errors import ScheduleError
from etastar.transfer import check_schedule, schedule_arguments, warmup_cosine

MADE_OF_FACTORS = {
    "constant": {},
    "constant_with_warmup": {"num_warmup_steps": 5},
    "cosine": {"num_warmup_steps": 5, "num_training_steps": 50},
    "cosine_with_restarts": {"num_warmup_steps": 5, "num_training_steps": 50},
    "linear": {"num_warmup_steps": 5, "num_training_steps": 50},
    "polynomial": {"num_warmup_steps": 5, "num_training_steps": 50},
    "inverse_sqrt": {"num_warmup_steps": 5},
    "warmup_stable_decay": {"num_warmup_steps": 5, "num_training_steps": 50},
    "reduce_lr_on_plateau": {},
}
OWN = {
    "warmup_stable_decay": {"num_decay_steps": 9},
    "reduce_lr_on_plateau": {"eps": 0.0, "patience": 2},
}


@pytest.fixture
def optimizer(make_net, make_plan):
    plan, model = make_plan(weight_decay=0.1), make_net(5, 32)
    plan.rescale_(model)
    return torch.optim.AdamW(plan.param_groups(model))


@pytest.mark.parametrize(("warmup_steps", "floor"), [(0, 0.1), (9, 0.1), (5, 0.0)])
def test_it_warms_up_and_ends_at_its_floor(optimizer, warmup_steps, floor):
    own = [group["lr"] for group in optimizer.param_groups]
    schedule = warmup_cosine(optimizer, 60, warmup_steps=warmup_steps, floor=floor)
    factors = []
    for _ in range(70):
        factors.append(schedule.get_last_lr()[0] / own[0])
        optimizer.step()
        schedule.step()
    assert factors[:warmup_steps] == pytest.approx(
        [(t + 1) / (warmup_steps + 1) for t in range(warmup_steps)]
    )
    assert factors[warmup_steps] == pytest.approx(1)
    middle = warmup_steps + (60 - warmup_steps) / 3
    if middle == int(middle):
        expected = floor + (1 - floor) * (1 + math.cos(math.pi / 3)) / 2
        assert factors[int(middle)] == pytest.approx(expected)
    assert factors[60:] == pytest.approx([floor] * 10)
    assert schedule.get_last_lr() == pytest.approx([floor * lr for lr in own])


def test_it_is_safe(optimizer):
    assert check_schedule(warmup_cosine(optimizer, 60, warmup_steps=6)) == 1000


@pytest.mark.parametrize(
    "settings", [{"warmup_steps": 60}, {"floor": 1.5}, {"floor": -0.1}, {"warmup_steps": -1}]
)
def test_what_is_no_schedule_is_refused(optimizer, settings):
    with pytest.raises(ScheduleError):
        warmup_cosine(optimizer, 60, **settings)


@pytest.mark.parametrize("name", MADE_OF_FACTORS)
def test_schedules_of_transformers_are_safe(optimizer, name):
    schedule = optimization.get_scheduler(
        name, optimizer, **MADE_OF_FACTORS[name], scheduler_specific_kwargs=OWN.get(name)
    )
    assert check_schedule(schedule) >= 100


def test_one_floor_for_all_groups_of_greedy_is_refused_and_made_one_each(optimizer):
    settings = {"patience": 0, "factor": 0.5}
    with pytest.raises(ScheduleError, match="GreedyLR, which changes the ratios"):
        check_schedule(optimization.GreedyLR(optimizer, min_lr=0.05, **settings))
    made = schedule_arguments(optimization.GreedyLR, optimizer, min_lr=0.05, **settings)
    assert len(made["min_lr"]) == len(optimizer.param_groups)
    check_schedule(optimization.GreedyLR(optimizer, **made))


def test_the_rate_of_averaging_is_made_one_for_each_group(optimizer):
    averaging = torch.optim.swa_utils.SWALR
    with pytest.raises(ScheduleError, match="changes the ratios"):
        check_schedule(averaging(optimizer, swa_lr=0.05))
    check_schedule(averaging(optimizer, **schedule_arguments(averaging, optimizer, swa_lr=0.05)))


@pytest.mark.parametrize(
    ("make", "rate"),
    [
        (optimization.get_cosine_with_min_lr_schedule_with_warmup, "min_lr"),
        (optimization.get_polynomial_decay_schedule_with_warmup, "lr_end"),
        (torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, "eta_min"),
        (torch.optim.lr_scheduler.CosineAnnealingLR, "eta_min"),
    ],
)
def test_a_rate_for_every_group_is_never_returned(optimizer, make, rate):
    with pytest.raises(ScheduleError, match=f"{rate}=1e-05, one number for every group"):
        schedule_arguments(make, optimizer, **{rate: 1e-5})
