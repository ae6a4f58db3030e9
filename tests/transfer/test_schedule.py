"""Schedules that keep the ratios between groups, and those that flatten them."""

import contextlib
import copy
import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as lrs

from etastar.errors import ScheduleError
from etastar.transfer import (
    check_schedule,
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
    assert check_schedule(make(optimizer)) >= 20


@pytest.mark.parametrize("make", FLATTENING.values(), ids=FLATTENING)
def test_a_flattening_schedule_is_refused(optimizer, make):
    scheduler = make(optimizer)
    with pytest.raises(ScheduleError, match=r"changes the ratios .* at step \d+ \(0 .*: \d"):
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
        with contextlib.suppress(ScheduleError):
            check_schedule(scheduler)
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
    assert check_schedule(late, num_steps=40) == 40
    with pytest.raises(ScheduleError, match="at step 50 "):
        check_schedule(late)


def test_a_stated_length_is_looked_at_to_its_end(optimizer):
    parts = [lrs.LinearLR(optimizer, total_iters=200), lrs.CosineAnnealingLR(optimizer, 300)]
    assert check_schedule(parts[1]) == 301
    assert check_schedule(lrs.SequentialLR(optimizer, parts, [200])) == 501


def test_a_schedule_under_way_is_looked_at_from_there(optimizer):
    scheduler = lrs.OneCycleLR(
        optimizer, **schedule_arguments(lrs.OneCycleLR, optimizer, max_lr=0.1, total_steps=40)
    )
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    assert check_schedule(scheduler) == 29


def test_an_optimizer_is_checked_as_it_stands(optimizer):
    assert check_schedule(optimizer) == 0
    for group in optimizer.param_groups:
        group["lr"] *= 0.3
    check_schedule(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    with pytest.raises(ScheduleError, match="changes the ratios"):
        check_schedule(optimizer)


def test_per_group_rates_are_the_plans(optimizer):
    found = schedule_arguments(lrs.OneCycleLR, optimizer, max_lr=0.1)
    assert found["max_lr"] == pytest.approx([group["lr"] for group in optimizer.param_groups])


@pytest.mark.parametrize(
    ("scheduler", "arguments"),
    [
        (lrs.CosineAnnealingLR, {"T_max": 10, "eta_min": 0.01}),
        (lrs.CosineAnnealingWarmRestarts, {"T_0": 10, "eta_min": 0.01}),
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
        lambda: schedule_arguments(lrs.OneCycleLR, optimizer, max_lr=0.1),
        lambda: check_schedule(lrs.ExponentialLR(optimizer, 0.9)),
        lambda: check_schedule(optimizer),
    ):
        with pytest.raises(ScheduleError, match="in place of an optimizer"):
            call()


class Accelerated:
    """What accelerate puts around a scheduler, by its attributes."""

    def __init__(self, scheduler, optimizers):
        self.scheduler, self.optimizers = scheduler, optimizers

    def step(self):
        self.scheduler.step()


class AcceleratedTwin(torch.optim.Optimizer):
    """What accelerate puts around an optimizer: a subclass that holds it and its groups."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups


def test_what_accelerate_prepared_is_understood(optimizer):
    assert check_schedule(AcceleratedTwin(optimizer)) == 0
    assert check_schedule(Accelerated(SAFE["one cycle"](optimizer), [optimizer])) == 39
    with pytest.raises(ScheduleError, match="changes the ratios"):
        check_schedule(Accelerated(FLATTENING["one cycle"](optimizer), [optimizer]))


class TimmTwin:
    """A cosine of timm by its attributes: it writes rates itself, by epochs or by updates."""

    def __init__(self, optimizer, t_initial, lr_min=0.0, warmup_lr_init=0.0, t_in_epochs=True):
        self.optimizer, self.t_initial, self.floor = optimizer, t_initial, lr_min
        self.warm, self.t_in_epochs = warmup_lr_init, t_in_epochs
        self.base_values = [group["lr"] for group in optimizer.param_groups]

    def _write(self, t):
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, t / self.t_initial)))
        for group, value in zip(self.optimizer.param_groups, self.base_values, strict=True):
            low = self.warm if t < 5 else self.floor
            group["lr"] = low + (value - low) * share

    def step(self, epoch, metric=None):
        if self.t_in_epochs:
            self._write(epoch)

    def step_update(self, num_updates, metric=None):
        if not self.t_in_epochs:
            self._write(num_updates)


@pytest.mark.parametrize("t_in_epochs", [True, False])
def test_timms_schedulers_are_understood(optimizer, t_in_epochs):
    assert check_schedule(TimmTwin(optimizer, 120, t_in_epochs=t_in_epochs)) == 121
    before = [group["lr"] for group in optimizer.param_groups]
    for floor in ({"lr_min": 0.01}, {"warmup_lr_init": 0.01}):
        with pytest.raises(ScheduleError, match="changes the ratios"):
            check_schedule(TimmTwin(optimizer, 120, t_in_epochs=t_in_epochs, **floor))
        with pytest.raises(ScheduleError, match="one number for every group"):
            schedule_arguments(TimmTwin, optimizer, t_initial=120, **floor)
    assert schedule_arguments(TimmTwin, optimizer, t_initial=9, lr_min=0.0) == {
        "t_initial": 9,
        "lr_min": 0.0,
    }
    assert [group["lr"] for group in optimizer.param_groups] == before


def test_a_plateau_by_default_is_safe(optimizer):
    assert check_schedule(lrs.ReduceLROnPlateau(optimizer)) == 1000


@pytest.mark.parametrize("schedule", [None, 3, 0.1, "cosine", lrs.StepLR, object(), [1]])
def test_what_is_no_scheduler_is_refused(schedule):
    with pytest.raises(ScheduleError, match="in place of a scheduler"):
        check_schedule(schedule)


@pytest.mark.parametrize("scheduler", [torch.nn.Linear, None, 3, "OneCycleLR"])
def test_arguments_for_what_is_no_scheduler_are_refused(optimizer, scheduler):
    with pytest.raises(ScheduleError, match="as scheduler"):
        schedule_arguments(scheduler, optimizer)


@pytest.mark.parametrize("lr", ["x", None, math.nan, math.inf, -0.1, True, [0.1, "x"]])
def test_arguments_that_are_no_rates_are_refused(optimizer, lr):
    with pytest.raises(ScheduleError, match="max_lr="):
        schedule_arguments(lrs.OneCycleLR, optimizer, max_lr=lr, total_steps=9)


def test_arguments_without_an_optimizer_are_refused():
    with pytest.raises(ScheduleError, match="in place of an optimizer"):
        schedule_arguments(lrs.OneCycleLR, None, max_lr=0.1)


@pytest.mark.parametrize("steps", [-1, 1.5, "x", True])
def test_a_bad_number_of_steps_is_refused(optimizer, steps):
    with pytest.raises(ScheduleError, match="num_steps"):
        check_schedule(lrs.StepLR(optimizer, 3), num_steps=steps)


@pytest.mark.parametrize(
    ("planned", "made"),
    [("sgd", torch.optim.AdamW), ("adamw", torch.optim.Adam), ("adam", torch.optim.SGD)],
)
def test_groups_in_another_optimizer_are_refused(make_ready, make_plan, planned, made):
    plan = make_plan(optimizer=planned)
    optimizer = made(plan.param_groups(make_ready(plan)), lr=0.1)
    scheduler = lrs.CosineAnnealingLR(optimizer, 10)
    for one in (scheduler, optimizer, Accelerated(scheduler, [optimizer])):
        with pytest.raises(ScheduleError, match=f"groups of a plan for {planned}"):
            check_schedule(one)


def test_groups_in_an_equal_optimizer_are_accepted(make_ready, make_plan):
    plan = make_plan(optimizer="adamw")
    optimizer = torch.optim.Adam(plan.param_groups(make_ready(plan)), decoupled_weight_decay=True)
    assert check_schedule(optimizer) == 0

    class Own(torch.optim.AdamW):
        pass

    assert check_schedule(Own(plan.param_groups(make_ready(plan)))) == 0


class TestOnPlateau:
    """Its eps is one size of step for all groups; torch's default is none that anybody chose."""

    def scheduler(self, lr, multipliers, **settings):
        groups = [
            {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr * m, "lr_multiplier": m}
            for m in multipliers
        ]
        return lrs.ReduceLROnPlateau(torch.optim.AdamW(groups), **settings)

    @pytest.mark.parametrize("lr", [1.0, 1e-3, 2e-4])
    @pytest.mark.parametrize("factor", [0.1, 0.5])
    def test_its_own_eps_is_no_reason_to_refuse_it(self, lr, factor):
        scheduler = self.scheduler(lr, (1.0, 1 / 64), factor=factor, patience=1)
        assert check_schedule(scheduler) == 1000
        assert scheduler.eps == 1e-8

    @pytest.mark.parametrize("settings", [{"eps": 1e-3}, {"factor": 0.5, "eps": 0.002}])
    @pytest.mark.parametrize("multipliers", [(1.0, 1 / 64), (4.0, 1.0, 0.1)])
    def test_an_eps_that_holds_a_group_is_named(self, settings, multipliers):
        scheduler = self.scheduler(0.01, multipliers, patience=1, **settings)
        with pytest.raises(ScheduleError, match=f"eps=0 in place of eps={settings['eps']:g}"):
            check_schedule(scheduler)
        optimizer = scheduler.optimizer
        others = {key: value for key, value in settings.items() if key != "eps"}
        arguments = schedule_arguments(lrs.ReduceLROnPlateau, optimizer, **others)
        assert arguments == {**others, "eps": 0.0}
        assert check_schedule(lrs.ReduceLROnPlateau(optimizer, **arguments)) == 1000

    def test_a_floor_for_all_groups_is_not_put_down_to_eps(self):
        with pytest.raises(ScheduleError, match="with the arguments from schedule_arguments"):
            check_schedule(self.scheduler(0.01, (1.0, 0.1), min_lr=0.002, eps=1e-3))

    def test_a_given_eps_and_one_rate_for_all_stay_as_they_are(self):
        apart = self.scheduler(0.01, (1.0, 0.1)).optimizer
        alike = self.scheduler(0.01, (0.5, 0.5)).optimizer
        assert schedule_arguments(lrs.ReduceLROnPlateau, apart, eps=1e-9) == {"eps": 1e-9}
        assert schedule_arguments(lrs.ReduceLROnPlateau, alike) == {}

    def test_what_waits_for_a_plateau_within_timms_is_seen(self):
        class Plateau:
            """As timm's: what it steps is one of torch's."""

            def __init__(self, inner):
                self.lr_scheduler, self.optimizer = inner, inner.optimizer

            def step(self, epoch, metric=None):
                self.lr_scheduler.step(metric)

            def step_update(self, num_updates, metric=None):
                pass

        assert check_schedule(Plateau(self.scheduler(1e-3, (1.0, 1 / 64), factor=0.5))) == 1000
        with pytest.raises(ScheduleError, match=r"eps=0 in place of eps=0\.001"):
            check_schedule(Plateau(self.scheduler(0.01, (1.0, 1 / 64), eps=1e-3)))


class Lamb(torch.optim.SGD):
    """As libraries name theirs; of the registry it is none."""


class Own(torch.optim.AdamW):
    """Another one that the registry does not know, which may be the plan's."""


@pytest.mark.parametrize("planned", ["adamw", "sgd", "adafactor"])
def test_an_optimizer_that_is_of_no_kind_of_the_registry_is_refused_by_name(planned):
    def groups():
        weight = torch.nn.Parameter(torch.zeros(2, 2))
        return [{"params": [weight], "lr_multiplier": 1.0, "lr": 0.1, "optimizer_kind": planned}]

    with pytest.raises(ScheduleError, match=f"a Lamb with groups of a plan for {planned}"):
        check_schedule(lrs.StepLR(Lamb(groups()), 7))
    check_schedule(lrs.StepLR(Own(groups()), 7))
    declared = [{**group, "optimizer_kind": "lamb"} for group in groups()]
    check_schedule(lrs.StepLR(Lamb(declared), 7))
