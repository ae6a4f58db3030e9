"""Schedules of runs too long to step through: looked at shortened, to their end."""

import pytest
import torch
from torch.optim import lr_scheduler as lrs

from etastar.errors import ScheduleError
from etastar.transfer import check_schedule


def optimizer_of(*multipliers):
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1 * m, "lr_multiplier": m}
        for m in multipliers
    ]
    return torch.optim.SGD(groups)


def warmed_up(optimizer, first, rest, at):
    return lrs.SequentialLR(optimizer, [first, rest], [at])


SAFE = {
    "cosine": lambda o: lrs.CosineAnnealingLR(o, 600_000),
    "behind a long warm-up": lambda o: warmed_up(
        o, lrs.LinearLR(o, 0.01, total_iters=20_000), lrs.CosineAnnealingLR(o, 580_000), 20_000
    ),
    "chain": lambda o: lrs.ChainedScheduler(
        [lrs.LinearLR(o, total_iters=30_000), lrs.PolynomialLR(o, 200_000, power=2)]
    ),
    "restarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 50_000, 2),
    "steps": lambda o: lrs.MultiStepLR(o, [300_000, 500_000]),
}
FLATTENING = {
    "cosine": lambda o: lrs.CosineAnnealingLR(o, 3_000_000, eta_min=0.01),
    "behind a long warm-up": lambda o: warmed_up(
        o,
        lrs.LinearLR(o, total_iters=20_000),
        lrs.CosineAnnealingLR(o, 580_000, eta_min=0.01),
        20_000,
    ),
    "behind a warm-up that states no length": lambda o: warmed_up(
        o,
        lrs.LambdaLR(o, lambda step: min(1.0, step / 900)),
        lrs.CosineAnnealingLR(o, 100, eta_min=0.01),
        900,
    ),
    "restarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 500_000, eta_min=0.01),
    "on a plateau that is long waited for": lambda o: lrs.ReduceLROnPlateau(
        o, min_lr=0.005, patience=2000, cooldown=500
    ),
}


@pytest.mark.parametrize("make", SAFE.values(), ids=SAFE)
def test_a_long_schedule_that_multiplies_is_safe(make):
    scheduler = make(optimizer_of(1.0, 0.5))
    assert check_schedule(scheduler) in (1000, 10_000)


@pytest.mark.parametrize("make", FLATTENING.values(), ids=FLATTENING)
def test_a_floor_far_away_is_refused(make):
    scheduler = make(optimizer_of(1.0, 0.5))
    before = str(scheduler.state_dict())
    with pytest.raises(ScheduleError, match="changes the ratios"):
        check_schedule(scheduler)
    assert str(scheduler.state_dict()) == before


def test_the_step_that_is_named_is_one_of_the_run():
    with pytest.raises(ScheduleError, match=r"at step \d{5} "):
        check_schedule(FLATTENING["cosine"](optimizer_of(1.0, 0.5)))


def test_a_run_that_is_resumed_is_looked_at_as_it_stands():
    scheduler = SAFE["cosine"](optimizer_of(1.0, 0.5))
    scheduler.last_epoch = 300_000
    assert check_schedule(scheduler) == 10_000
