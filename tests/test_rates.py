"""A learning rate is taken wherever one is given, whoever made the number."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from etastar import (
    Tuned,
    coordinate_check,
    fit_power_law,
    measure_update,
    plan_transfer,
    schedule_arguments,
)
from etastar.errors import EtastarError
from etastar.laws import CompleteP, EffectiveDepth, Fitted, Measured, Structure
from etastar.optimizers import optimizer_like
from etastar.sweep import Bracket, Grid

X = torch.zeros(2, 8)
NUMBERS = [0.25, np.float32(0.25), np.float64(0.25), torch.tensor(0.25), np.array(0.25)]
NUMBERS += [
    Fraction(1, 4),
    torch.tensor(0.25, requires_grad=True),
    nn.Parameter(torch.tensor(0.25)),
]
BAD = [True, np.True_, math.nan, np.float32("nan"), torch.tensor(math.inf), -0.25, "0.25"]
BAD += [np.array([0.25]), torch.tensor([0.25]), torch.tensor(True), torch.tensor(-1.0), None]


def net(width=16):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))


def transferred(lr):
    plan = plan_transfer(Tuned((net(), (X,)), lr), (net(64), (X,)), optimizer="adamw")
    return plan.lr, [p.lr for p in plan.parameters]


def aux(lr):
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)])
    found = plan_transfer(Tuned((model, (X,)), 0.1, aux_lr=lr), (model, (X,)), optimizer="muon")
    return [p.lr for p in found.parameters]


def coordinates(lr):
    batch = torch.ones(4, 8), torch.zeros(4)
    sizes = [{"width": n} for n in (8, 16, 32)]
    report = coordinate_check(
        net, sizes, batch, lambda z, _: z.mean(), optimizer="sgd", lr=lr, num_steps=1, seeds=1
    )
    return [layer.module for layer in report.axes[0].layers]


def measured(lr):
    batch = torch.ones(4, 8), torch.zeros(4)
    torch.manual_seed(0)
    options = {"optimizer": lambda m: torch.optim.SGD(m.parameters(), 0.5), "seeds": [0]}
    return measure_update(net(), batch, lambda z, _: z.mean(), lr_unit=lr, **options).eta_star


def one_cycle(lr):
    group = {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5, "lr_multiplier": 0.5}
    optimizer = torch.optim.SGD([group])
    return schedule_arguments(torch.optim.lr_scheduler.OneCycleLR, optimizer, max_lr=lr)


TAKERS = {
    "tuned": (transferred, BAD),
    "muon's": (aux, BAD[:-1]),  # None stands for none
    "schedule": (one_cycle, BAD),
    "grid": (lambda lr: Grid([3.0, lr]).options, BAD),
    "bracket": (lambda lr: Bracket(lr).options, BAD[:-1]),
    "fit": (lambda lr: fit_power_law([1, 2], [lr, lr]).predict(3), BAD),
    "prediction": (fit_power_law([1, 2], [1.0, 0.5]).predict, BAD),
    "coordinates": (coordinates, BAD[:3]),
}


@pytest.mark.parametrize("name", TAKERS)
def test_a_rate_is_taken_whoever_made_it_or_refused_with_the_reason(name):
    take, refused = TAKERS[name]
    expected = take(0.25)
    assert take(0.5) != expected or name == "coordinates"
    for number in NUMBERS:
        assert take(number) == expected
    for bad in refused:
        with pytest.raises(EtastarError, match=r"number|positive"):
            take(bad)


def test_the_unit_of_a_measured_rate_likewise():
    assert measured(np.float32(0.25)) == measured(0.25) != measured(0.5)
    with pytest.raises(EtastarError, match="lr_unit=True"):
        measured(True)


def test_options_of_laws_and_settings_are_pythons_numbers_and_can_be_written(tmp_path):
    half = np.float32(0.5)
    laws = [EffectiveDepth(-half), CompleteP(half), Fitted(half, half, half), Structure(last=half)]
    laws.append(Measured(torch.tensor(2.0), half))
    for law in laws:
        assert {type(v) for v in law.options.values() if not isinstance(v, (str, type(None)))} == {
            float
        }
    tuned = Tuned(
        (net(), (X,)),
        half,
        weight_decay=torch.tensor(0.5),
        betas=[half, np.float64(0.75)],
        eps=half,
        batch_size=np.int64(8),
        num_steps=torch.tensor(9),
    )
    assert (tuned.betas, tuned.batch_size, tuned.num_steps) == ((0.5, 0.75), 8, 9)
    plan = plan_transfer(tuned, (net(64), (X,)), optimizer="adamw", law=EffectiveDepth(-half))
    plan.save(tmp_path / "plan.json")
    assert type(plan).load(tmp_path / "plan.json") == plan


def test_an_optimizers_own_defaults_may_be_numpys():
    rate, epsilon = np.float32(0.1), np.float32(0.5)

    class Own(torch.optim.AdamW):
        def __init__(self, params, lr=rate, eps=epsilon):
            super().__init__(params, lr, eps=eps)

    assert optimizer_like(Own, "adam", decoupled_weight_decay=True).eps == 0.5
