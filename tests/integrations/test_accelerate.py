"""Groups and schedule survive `Accelerator.prepare`; rates count optimizer steps."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from etastar.integrations.combined import CombinedOptimizer
from etastar.transfer import Tuned, check_schedule, plan_transfer, warmup_cosine

STEPS = 4


def plain(width):
    return nn.Sequential(
        nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 3)
    )


def normed(width):
    return nn.Sequential(nn.Linear(6, width), nn.LayerNorm(width), nn.Linear(width, 3))


def optimizer_of(plan, model):
    if plan.optimizer.name != "muon":
        return torch.optim.AdamW(plan.param_groups(model))
    return CombinedOptimizer(
        torch.optim.Muon(plan.param_groups(model, kind="muon")),
        torch.optim.AdamW(plan.param_groups(model, kind="adamw")),
    )


def planned(make, optimizer):
    torch.manual_seed(0)
    example, model = torch.zeros(2, 6), make(32)
    rates = {"lr": 0.02, "aux_lr": 0.003} if optimizer == "muon" else {"lr": 0.01}
    tuned = Tuned((make(8), example), weight_decay=0.1, **rates)
    plan = plan_transfer(tuned, (model, example), optimizer=optimizer, law="constant")
    plan.rescale_(model)
    return plan, model


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True, gradient_accumulation_steps=2)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("make", "kind"), [(plain, "adamw"), (normed, "adamw"), (plain, "muon")])
def test_prepared_it_trains_like_a_loop_on_whole_batches(accelerator, make, kind, at_once):
    batches = torch.randn(STEPS, 8, 6)
    plan, twin = planned(make, kind)
    own = optimizer_of(plan, twin)
    own_schedule = warmup_cosine(own, STEPS, warmup_steps=1)
    rates = []
    for batch in batches:
        own.zero_grad()
        twin(batch).square().mean().backward()
        own.step()
        own_schedule.step()
        rates.append([group["lr"] for group in own.param_groups])

    plan, model = planned(make, kind)
    optimizer = optimizer_of(plan, model)
    if at_once:
        schedule = warmup_cosine(optimizer, STEPS, warmup_steps=1)
        model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    else:
        model, optimizer = accelerator.prepare(model, optimizer)
        schedule = accelerator.prepare(warmup_cosine(optimizer, STEPS, warmup_steps=1))
    check_schedule(schedule)
    seen = []
    for half in batches.flatten(0, 1).split(4):
        with accelerator.accumulate(model):
            accelerator.backward(model(half).square().mean())
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        seen.append([group["lr"] for group in optimizer.param_groups])
    assert seen[1::2] == rates
    assert len({tuple(one) for one in rates}) == STEPS
    close = {"rtol": 1e-2, "atol": 1e-3} if kind == "muon" else {}  # in bfloat16 inside
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()), **close)
