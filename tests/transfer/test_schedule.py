"""Schedules that keep the ratios between groups, and those that flatten them."""

import copy
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as lrs

from etastar.errors import ScheduleError
from etastar.transfer import (
    check_schedule,
    inspect_schedule,
    per_group_lr,
    schedule_arguments,
)
from etastar.transfer.schedule import _copied


class WarmUpToOneRate(lrs.LRScheduler):
    """Writes the same learning rate into every group for five steps."""

    def get_lr(self):
        if self.last_epoch < 5:
            return [0.1 * (self.last_epoch + 1) / 5 for _ in self.base_lrs]
        return self.base_lrs


SAFE = {
    "constant": lambda o: lrs.ConstantLR(o, 0.5),
    "step": lambda o: lrs.StepLR(o, 7),
    "exponential": lambda o: lrs.ExponentialLR(o, 0.9),
    "lambda": lambda o: lrs.LambdaLR(o, lambda step: min(1.0, step / 10)),
    "cosine to zero": lambda o: lrs.CosineAnnealingLR(o, 30),
    "restarts to zero": lambda o: lrs.CosineAnnealingWarmRestarts(o, 10),
    "polynomial": lambda o: lrs.PolynomialLR(o, 20),
    "warm-up, then cosine": lambda o: lrs.SequentialLR(
        o, [lrs.LinearLR(o, 0.01, total_iters=5), lrs.CosineAnnealingLR(o, 30)], [5]
    ),
    "chained": lambda o: lrs.ChainedScheduler([lrs.LinearLR(o), lrs.ExponentialLR(o, 0.9)]),
    "on plateau": lambda o: lrs.ReduceLROnPlateau(o, patience=2),
    "one cycle": lambda o: lrs.OneCycleLR(
        o, **schedule_arguments(lrs.OneCycleLR, o, max_lr=0.1, total_steps=40)
    ),
    "cyclic": lambda o: lrs.CyclicLR(
        o,
        **schedule_arguments(lrs.CyclicLR, o, base_lr=0.01, max_lr=0.1, cycle_momentum=False),
    ),
    "on plateau with a floor": lambda o: lrs.ReduceLROnPlateau(
        o, **schedule_arguments(lrs.ReduceLROnPlateau, o, min_lr=0.01, patience=2)
    ),
}
FLATTENING = {
    "one cycle": lambda o: lrs.OneCycleLR(o, 0.1, total_steps=40),
    "cyclic": lambda o: lrs.CyclicLR(o, 0.01, 0.1, cycle_momentum=False),
    "cosine to a floor": lambda o: lrs.CosineAnnealingLR(o, 30, eta_min=0.01),
    "restarts to a floor": lambda o: lrs.CosineAnnealingWarmRestarts(o, 10, eta_min=0.01),
    "warm-up to one rate": WarmUpToOneRate,
    "on plateau with a floor": lambda o: lrs.ReduceLROnPlateau(o, min_lr=0.005, patience=2),
    "late in a sequence": lambda o: lrs.SequentialLR(
        o, [lrs.LinearLR(o, total_iters=5), lrs.CosineAnnealingLR(o, 30, eta_min=0.01)], [5]
    ),
    "one rate for one group": lambda o: lrs.LambdaLR(
        o, [lambda _: 1.0, *[lambda step: 0.9**step] * (len(o.param_groups) - 1)]
    ),
}


@pytest.fixture
def optimizer(make_net, make_plan):
    plan, model = make_plan(weight_decay=0.1), make_net(5, 32)
    plan.rescale_(model)
    return torch.optim.AdamW(plan.param_groups(model))


@pytest.mark.parametrize("make", SAFE.values(), ids=SAFE)
def test_a_proportional_schedule_is_safe(optimizer, make):
    verdict = check_schedule(make(optimizer))
    assert verdict.safe
    assert verdict.first_step is None
    assert verdict.steps >= 20


@pytest.mark.parametrize("make", FLATTENING.values(), ids=FLATTENING)
def test_a_flattening_schedule_is_refused(optimizer, make):
    scheduler = make(optimizer)
    verdict = inspect_schedule(scheduler)
    assert not verdict.safe
    assert len(set(verdict.factors)) > 1
    with pytest.raises(ScheduleError, match=f"at step {verdict.first_step} "):
        check_schedule(scheduler)


def test_any_schedule_is_safe_with_one_group(make_net, make_plan):
    plan = make_plan((2, 8), (2, 8))
    for make in FLATTENING.values():
        check_schedule(make(torch.optim.AdamW(plan.param_groups(make_net(2, 8)))))


@pytest.mark.parametrize("make", [*SAFE.values(), *FLATTENING.values()])
def test_scheduler_and_optimizer_stay_as_they_were(optimizer, make):
    scheduler = make(optimizer)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    before = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    step = optimizer.step
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inspect_schedule(scheduler)
    assert str((optimizer.state_dict(), scheduler.state_dict())) == str(before)
    assert optimizer.step is step or optimizer.step == step
    assert scheduler.optimizer is optimizer


def test_the_copy_holds_nothing_of_the_model(optimizer):
    scheduler = lrs.SequentialLR(
        optimizer, [lrs.LinearLR(optimizer), lrs.StepLR(optimizer, 9)], [5]
    )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    copied = _copied(scheduler).optimizer
    assert not copied.state
    assert all(p.numel() == 1 for group in copied.param_groups for p in group["params"])
    assert [g["lr"] for g in copied.param_groups] == [g["lr"] for g in optimizer.param_groups]


def test_the_check_looks_as_far_as_the_schedule_goes(optimizer):
    late = lrs.LambdaLR(
        optimizer,
        [
            lambda step, number=number: 1.0 if step < 50 else 0.5**number
            for number, _ in enumerate(optimizer.param_groups)
        ],
    )
    assert inspect_schedule(late, num_steps=40).safe
    assert inspect_schedule(late).first_step == 50


def test_a_stated_length_is_looked_at_to_its_end(optimizer):
    parts = [lrs.LinearLR(optimizer, total_iters=200), lrs.CosineAnnealingLR(optimizer, 300)]
    assert inspect_schedule(parts[1]).steps == 301
    assert inspect_schedule(lrs.SequentialLR(optimizer, parts, [200])).steps == 501


def test_a_schedule_under_way_is_looked_at_from_there(optimizer):
    scheduler = lrs.OneCycleLR(
        optimizer, **schedule_arguments(lrs.OneCycleLR, optimizer, max_lr=0.1, total_steps=40)
    )
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    assert check_schedule(scheduler).steps == 29


def test_an_optimizer_is_checked_as_it_stands(optimizer):
    assert check_schedule(optimizer).safe
    for group in optimizer.param_groups:
        group["lr"] *= 0.3
    check_schedule(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    with pytest.raises(ScheduleError, match="changes the ratios"):
        check_schedule(optimizer)


def test_per_group_rates_are_the_plans(optimizer):
    assert per_group_lr(optimizer, 0.1) == pytest.approx(
        [group["lr"] for group in optimizer.param_groups]
    )


@pytest.mark.parametrize(
    ("scheduler", "arguments"),
    [
        (lrs.CosineAnnealingLR, {"T_max": 10, "eta_min": 0.01}),
        (lrs.CosineAnnealingWarmRestarts, {"T_0": 10, "eta_min": 0.01}),
        (torch.optim.swa_utils.SWALR, {"swa_lr": 0.01}),
    ],
)
def test_one_number_for_all_groups_is_refused(optimizer, scheduler, arguments):
    with pytest.raises(ScheduleError, match="one number for every group"):
        schedule_arguments(scheduler, optimizer, **arguments)


def test_other_arguments_pass_through(optimizer):
    given = {"T_max": 10}
    assert schedule_arguments(lrs.CosineAnnealingLR, optimizer, **given) == given
    own = [0.5] * len(optimizer.param_groups)
    assert schedule_arguments(lrs.OneCycleLR, optimizer, max_lr=own) == {"max_lr": own}


def test_groups_that_are_not_a_plans_are_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    for call in (
        lambda: per_group_lr(optimizer, 0.1),
        lambda: check_schedule(lrs.ExponentialLR(optimizer, 0.9)),
        lambda: check_schedule(optimizer),
    ):
        with pytest.raises(ScheduleError, match="not a plan's"):
            call()
