"""Several optimizers as one step, save, load and are scheduled like the several."""

import copy
import itertools

import pytest
import torch
from torch import nn

from etastar.errors import OptimizerError, ScheduleError
from etastar.integrations.combined import CombinedOptimizer
from etastar.transfer import Tuned, check_schedule, plan_transfer


def mlp(width):
    torch.manual_seed(0)
    sizes = [6, width, width, width, 4]
    pairs = itertools.pairwise(sizes)
    return nn.Sequential(*[m for a, b in pairs for m in (nn.Linear(a, b), nn.GELU())])


def normed(width):
    torch.manual_seed(0)
    hidden = [nn.Linear(width, width), nn.LayerNorm(width), nn.Linear(width, width)]
    return nn.Sequential(nn.Linear(6, width), *hidden, nn.Linear(width, 4))


def several(make):
    example = torch.zeros(2, 6)
    tuned = Tuned((make(8), example), 0.02, aux_lr=0.003, weight_decay=0.01)
    plan = plan_transfer(tuned, (make(24), example), optimizer="muon", law="constant")
    model = make(24)
    plan.rescale_(model)
    return model, [
        torch.optim.Muon(plan.param_groups(model, kind="muon")),
        torch.optim.AdamW(plan.param_groups(model, kind="adamw")),
    ]


def train(model, optimizers, schedules, steps):
    data = torch.Generator().manual_seed(3)
    for _ in range(steps):
        model.zero_grad()
        model(torch.randn(5, 6, generator=data)).square().mean().backward()
        for one in (*optimizers, *schedules):
            one.step()
    return [p.detach().clone() for p in model.parameters()]


def cosine(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)


@pytest.mark.parametrize("make", [mlp, normed])
def test_it_trains_like_the_several(make):
    model, optimizers = several(make)
    apart = train(model, optimizers, [cosine(one) for one in optimizers], 8)
    model, optimizers = several(make)
    one = CombinedOptimizer(*optimizers)
    schedule = cosine(one)
    assert check_schedule(schedule) == 100
    together = train(model, [one], [schedule], 8)
    assert all(map(torch.equal, together, apart))


@pytest.mark.parametrize("make", [mlp, normed])
def test_it_goes_on_from_its_state(make, tmp_path):
    model, optimizers = several(make)
    one = CombinedOptimizer(*optimizers)
    train(model, [one], [cosine(one)], 4)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other, optimizers = several(make)
    other.load_state_dict(model.state_dict())
    resumed = CombinedOptimizer(*optimizers)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    copied_model, copied = copy.deepcopy((model, one))
    expected = train(model, [one], [], 3)
    assert all(map(torch.equal, train(other, [resumed], [], 3), expected))
    assert all(map(torch.equal, train(copied_model, [copied], [], 3), expected))


def test_one_rate_for_both_is_refused():
    one = CombinedOptimizer(*several(mlp)[1])
    for group in one.param_groups:
        group["lr"] = 0.01
    with pytest.raises(ScheduleError, match="changes the ratios"):
        check_schedule(one)


def test_optimizers_of_the_wrong_kind_are_found_inside():
    model, optimizers = several(mlp)
    swapped = torch.optim.SGD(optimizers[1].param_groups, lr=0.1)
    with pytest.raises(ScheduleError, match="a SGD with groups of a plan for adamw"):
        check_schedule(CombinedOptimizer(optimizers[0], swapped))
    assert model is not None


def test_a_later_group_and_what_is_no_optimizer_are_refused():
    one = CombinedOptimizer(*several(mlp)[1])
    with pytest.raises(OptimizerError, match="a further group"):
        one.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    for given in ((), (nn.Linear(1, 1),)):
        with pytest.raises(OptimizerError, match="to combine"):
            CombinedOptimizer(*given)


def test_a_closure_is_evaluated_once():
    model, optimizers = several(mlp)
    calls = []

    def closure():
        calls.append(1)
        model.zero_grad()
        loss = model(torch.ones(1, 6)).square().mean()
        loss.backward()
        return loss

    assert CombinedOptimizer(*optimizers).step(closure) > 0
    assert calls == [1]
