"""A range test keeps the ratios between groups, and leaves everything as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from etastar.errors import MeasureError
from etastar.integrations.lr_range import LrRange, lr_range_test
from etastar.transfer import Tuned, plan_transfer


def mlp(width):
    return nn.Sequential(
        nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 3)
    )


def conv(width):
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, width, 3), nn.GELU(), nn.Dropout(0.1),
        nn.Conv1d(width, width, 3), nn.Flatten(), nn.Linear(2 * width, 3),
    )  # fmt: skip


@pytest.fixture(params=[mlp, conv])
def ready(request):
    torch.manual_seed(0)
    example = torch.zeros(2, 6)
    base, model = request.param(8), request.param(32)
    plan = plan_transfer(Tuned((base, example), 0.01), (model, example), optimizer="adamw")
    plan.rescale_(model)
    batches = [(torch.randn(16, 6), torch.randint(3, (16,))) for _ in range(40)]
    return model, torch.optim.AdamW(plan.param_groups(model)), batches


def test_every_step_keeps_the_ratios(ready, monkeypatch):
    model, optimizer, batches = ready
    own = torch.tensor([group["lr"] for group in optimizer.param_groups])
    seen = []
    step = optimizer.step
    monkeypatch.setattr(
        optimizer, "step", lambda: seen.append([g["lr"] for g in optimizer.param_groups]) or step()
    )
    found = lr_range_test(model, optimizer, batches, F.cross_entropy, num_steps=40)
    factors = torch.tensor(seen) / own
    torch.testing.assert_close(factors, torch.tensor(found.factors)[:, None].expand_as(factors))
    assert len(set(own.tolist())) > 1
    assert found.factors[0] == pytest.approx(1e-3)
    assert 0.05 < found.steepest < 100
    assert "the loss falls fastest" in str(found)


def test_everything_is_as_before(ready):
    model, optimizer, batches = ready
    for inputs, targets in batches[:3]:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    gradients = [p.grad.clone() for p in model.parameters()]
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    lr_range_test(model, optimizer, batches, F.cross_entropy, num_steps=30)
    after = (model.state_dict(), optimizer.state_dict(), torch.get_rng_state())
    assert str(after) == str(before)
    assert all(map(torch.equal, [p.grad for p in model.parameters()], gradients))


def test_it_stops_where_the_loss_is_beyond_all(ready):
    model, optimizer, batches = ready
    found = lr_range_test(
        model, optimizer, batches, F.cross_entropy, factors=(1, 1e9), num_steps=40
    )
    assert len(found.losses) < 40


def test_the_steepest_fall_is_found():
    losses = (*[2.0] * 10, *[2.0 - 0.2 * n for n in range(1, 6)], *[1.0] * 10)
    factors = tuple(10 ** (n / 5 - 3) for n in range(25))
    steepest = factors.index(LrRange(factors, losses).steepest)
    assert 10 <= steepest <= 14


def test_too_few_batches_and_bad_settings_are_refused(ready):
    model, optimizer, batches = ready
    for settings in (
        {"num_steps": 41, "factors": (1e-3, 1e-2)},
        {"num_steps": 2},
        {"factors": (0, 1)},
    ):
        with pytest.raises(MeasureError):
            lr_range_test(model, optimizer, batches, F.cross_entropy, **settings)
