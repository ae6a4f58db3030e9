"""What every optimizer of the registry owes: training under a plan, resuming, schedules, width."""

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from etastar.coordinates import coordinate_check
from etastar.datasets import load
from etastar.errors import OptimizerError
from etastar.models import build
from etastar.optimizers import OPTIMIZERS, optimizer_class, optimizer_kind
from etastar.transfer import (
    Target,
    TransferPlan,
    Tuned,
    check_schedule,
    plan_transfer,
    schedule_arguments,
)

RATES = {
    "sgd": 0.05,
    "radam": 3e-3,
    "adafactor": 0.02,
    "lion": 3e-4,
    "schedule-free-sgd": 0.05,
    "shampoo": 0.05,
    "scion": 0.02,
}
LAWS = ("complete-p", "batch-size", "duration")


def is_installed(name):
    try:
        return bool(optimizer_class(OPTIMIZERS[name]))
    except OptimizerError:
        return False


def each(names):
    """By name; skipped where its package is not installed."""
    reason = "its package is not installed"
    marked = (pytest.mark.skipif(not is_installed(n), reason=reason) for n in names)
    return [pytest.param(n, marks=mark) for n, mark in zip(names, marked, strict=True)]


each_optimizer = pytest.mark.parametrize("name", each(list(OPTIMIZERS)))


def gpt(depth, width):
    model = build("gpt", depth=depth, width=width, vocabulary=32, context=8)
    return model, torch.zeros(1, 8, dtype=torch.long)


@cache
def make(name):
    lr = RATES.get(name, 3e-3)
    kind = OPTIMIZERS[name]
    base = Tuned(
        gpt(3, 16),
        lr,
        weight_decay=0.05,
        batch_size=8,
        num_steps=100,
        aux_lr=lr if kind.fallback else None,
    )
    return plan_transfer(
        base, Target(gpt(6, 32), batch_size=16, num_steps=100), optimizer=name, law=LAWS
    )


def optimizers(plan, model):
    """One of each kind that the plan has groups for."""
    kinds = dict.fromkeys(entry.optimizer for entry in plan.parameters)
    chosen = {None: plan.optimizer} if len(kinds) == 1 else {k: optimizer_kind(k) for k in kinds}
    return [
        optimizer_class(kind)(plan.param_groups(model, kind=key)) for key, kind in chosen.items()
    ]


def train(model, every, steps, start=0):
    losses = []
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step % 4)  # four batches, again and again
        tokens = torch.randint(32, (16, 9), generator=generator)
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        for optimizer in every:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in every:
            optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@each_optimizer
def test_twenty_steps_under_a_plan_learn_and_go_on_from_a_checkpoint(name, seeded):
    plan = make(name)
    model, _ = gpt(6, 32)
    plan.initialize_(model)
    every = optimizers(plan, model)
    first = train(model, every, 10)
    saved = copy.deepcopy([model.state_dict(), *(one.state_dict() for one in every)])
    whole = first + train(model, every, 10, start=10)
    assert sum(whole[16:]) < sum(whole[:4])
    assert all(map(torch.isfinite, torch.tensor(whole)))

    resumed, _ = gpt(6, 32)
    resumed.load_state_dict(saved[0])
    again = TransferPlan.from_json(plan.to_json())
    fresh = [
        optimizer_class(optimizer_kind(key or name))(
            again.param_groups(resumed, kind=key, from_checkpoint=True)
        )
        for key in (
            dict.fromkeys(e.optimizer for e in plan.parameters) if len(every) > 1 else [None]
        )
    ]
    for optimizer, state in zip(fresh, saved[1:], strict=True):
        optimizer.load_state_dict(state)
    assert train(resumed, fresh, 10, start=10) == whole[10:]


@each_optimizer
def test_a_schedule_keeps_the_plans_groups_apart(name, seeded):
    plan = make(name)
    model, _ = gpt(6, 32)
    plan.initialize_(model)
    for optimizer in optimizers(plan, model):
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
        assert check_schedule(cosine) > 0
        arguments = schedule_arguments(
            torch.optim.lr_scheduler.LinearLR, optimizer, start_factor=0.1, total_iters=5
        )
        assert check_schedule(torch.optim.lr_scheduler.LinearLR(optimizer, **arguments)) > 0


@each_optimizer
def test_settings_reach_the_optimizer(name, seeded):
    plan = make(name)
    model, _ = gpt(6, 32)
    plan.initialize_(model)
    names = {parameter: n for n, parameter in model.named_parameters()}
    planned = {entry.name: entry for entry in plan.parameters}
    seen = set()
    for optimizer in optimizers(plan, model):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                entry = planned[names[parameter]]
                assert group["lr"] == entry.lr
                assert group["weight_decay"] == entry.weight_decay
                assert entry.eps is None or group["eps"] == entry.eps
                assert entry.betas is None or tuple(group["betas"]) == entry.betas
                seen.add(entry.name)
    assert seen == set(planned)


class OverWidth:
    """A network of the zoo at any width under a plan from its narrowest."""

    def __init__(self, name, lr, width="mup"):
        self.name, self.lr, self.width = name, lr, width

    def __call__(self, width):
        kind = OPTIMIZERS[self.name]
        sizes = [(build("mlp", depth=3, width=w), torch.zeros(1, 1, 8, 8)) for w in (64, width)]
        tuned = Tuned(sizes[0], self.lr, aux_lr=self.lr if kind.fallback else None)
        plan = plan_transfer(tuned, sizes[1], optimizer=self.name, law="constant", width=self.width)
        model = sizes[1][0]
        plan.initialize_(model, seed=torch.initial_seed())
        return model, optimizers(plan, model)


NOT_FLAT = ("radam", "soap")


@pytest.mark.slow
@pytest.mark.parametrize("name", each([n for n in OPTIMIZERS if n not in NOT_FLAT]))
def test_coordinates_are_flat_over_width(name):
    # a gradient step through a random readout is softer at first where that is small
    lr, steps = (0.3, 10) if name.endswith("sgd") else (RATES.get(name, 1e-3), 3)
    report = over_width(OverWidth(name, lr), num_steps=steps)
    assert report.passed, str(report)


@pytest.mark.slow
def test_radam_moves_wide_networks_less_in_its_first_steps_as_its_table_says():
    """It takes gradient steps at Adam's rates until it knows the variance of the gradients."""
    (axis,) = over_width(OverWidth("radam", RATES["radam"])).axes
    hidden = [layer for layer in axis.layers if layer.role == "hidden"]
    assert len(hidden) == 2
    assert all(layer.verdict == "shrinks" for layer in hidden)


@pytest.mark.slow
@pytest.mark.parametrize("name", each(["soap"]))
def test_soap_moves_wide_networks_more_as_its_table_says(name):
    """What its step makes of small entries fills the matrix: 2512.05620 finds the drift too."""
    (axis,) = over_width(OverWidth(name, 1e-3)).axes
    hidden = [layer for layer in axis.layers if layer.role == "hidden"]
    assert len(hidden) == 2
    assert all(layer.verdict == "grows" and layer.change.exponent < 0.3 for layer in hidden)


@pytest.mark.slow
@pytest.mark.parametrize("name", each(["nadam", "adamax", "adafactor", "lion", "shampoo"]))
def test_coordinates_are_not_flat_without_the_width_rule(name):
    assert not over_width(OverWidth(name, RATES.get(name, 1e-3), width="none")).passed


def over_width(family, *, num_steps=3):
    digits = next(iter(load("digits").batches(0, 64, 1)))
    sizes = [{"width": width} for width in (64, 128, 256, 512)]
    return coordinate_check(family, sizes, digits, F.cross_entropy, num_steps=num_steps)
