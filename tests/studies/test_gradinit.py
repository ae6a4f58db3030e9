"""GradInit: closed forms of one layer, finite differences of single steps, what stays untouched."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.errors import EtastarError, InitError
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.models import build, example_inputs
from studies.gradinit import _halves, gradinit_


def scalar(value):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def half_square(scores, targets):
    return (scores - targets).square().mean() / 2


ONES = torch.ones(4, 1), torch.ones(4, 1)


def mlp(factor=1.0, *, depth=6, bias=True):
    torch.manual_seed(0)
    model = build("mlp", depth=depth, width=16, in_features=5, num_classes=3, bias=bias)
    initialize_(model, capture_graph(model, torch.zeros(2, 5)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model


def class_batches(seed=0):
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(16, 5, generator=generator)
        yield x, x[:, :3].argmax(1)


def grad_norm(model, batch, update):
    loss = F.cross_entropy(model(batch[0]), batch[1])
    grads = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    if update == "sgd":
        return math.sqrt(sum(g.square().sum().item() for g in grads))
    return sum(g.abs().sum().item() for g in grads)


@pytest.mark.parametrize("weight", [0.4, 5.0])
def test_one_weight_is_scaled_to_the_solution(weight):
    model = scalar(weight)
    report = gradinit_(
        model,
        itertools.repeat(ONES),
        half_square,
        optimizer="sgd",
        lr=0.1,
        num_steps=400,
        scale_lr=0.02,
        max_grad_norm=1e9,
    )
    assert report.scales["weight"] == pytest.approx(1 / weight, rel=1e-2)
    assert model.weight.item() == pytest.approx(1.0, rel=1e-2)
    assert report.norm_steps == 0


@pytest.mark.parametrize(("optimizer", "after"), [("sgd", 0.5 * 1.8**2), ("adam", 0.5 * 1.9**2)])
def test_the_loss_after_the_step_is_that_of_the_optimizer(optimizer, after):
    # theta = 3, g = theta - 1 = 2: SGD goes to 2.8, Adam to 2.9
    report = gradinit_(
        scalar(3.0),
        [ONES, ONES],
        half_square,
        optimizer=optimizer,
        lr=0.1,
        num_steps=1,
        max_grad_norm=10.0,
    )
    (step,) = report.steps
    assert (step.loss, step.grad_norm) == pytest.approx((2.0, 2.0))
    assert step.loss_after == pytest.approx(after)


@pytest.mark.parametrize(
    ("optimizer", "norm"), [("sgd", math.sqrt(2 * 1.5**2)), ("adam", 2 * 1.5), ("adamw", 3.0)]
)
def test_the_norm_is_that_of_the_optimizer(optimizer, norm):
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 1.25)
    batch = torch.ones(4, 2), torch.ones(4, 1)
    report = gradinit_(
        model, [batch, batch], half_square, optimizer=optimizer, lr=0.01, num_steps=1
    )
    assert report.steps[0].grad_norm == pytest.approx(norm)


def test_the_default_bound_is_a_first_order_decrease_of_a_tenth():
    for optimizer, power in (("sgd", 2), ("adam", 1)):
        report = gradinit_(
            scalar(1.1), [ONES] * 2, half_square, optimizer=optimizer, lr=0.02, num_steps=1
        )
        assert 0.02 * report.max_grad_norm**power == pytest.approx(0.1)


@pytest.mark.parametrize("update", ["sgd", "adam"])
def test_a_step_over_the_bound_goes_down_the_norm_as_finite_differences_say(update):
    """The first step of Adam is of size scale_lr against the sign of the derivative."""
    model = mlp(1.3, bias=False).double()
    x, y = next(class_batches())
    batch = x.double(), y
    slopes = {}
    for name in dict(model.named_parameters()):
        norms = []
        for scale in (1 + 1e-5, 1 - 1e-5):
            moved = copy.deepcopy(model)
            with torch.no_grad():
                moved.get_parameter(name).mul_(scale)
            norms.append(grad_norm(moved, batch, update))
        slopes[name] = norms[0] - norms[1]
    report = gradinit_(
        model,
        [batch],
        F.cross_entropy,
        optimizer=update,
        lr=0.1,
        num_steps=1,
        scale_lr=0.25,
        max_grad_norm=1e-3,
    )
    assert report.norm_steps == 1
    assert {name: 1 - 0.25 * math.copysign(1, s) for name, s in slopes.items()} == pytest.approx(
        report.scales, rel=1e-5
    )


@pytest.mark.parametrize("update", ["sgd", "adam"])
def test_a_step_within_the_bound_goes_down_the_loss_after_the_step(update):
    model = mlp(0.9, bias=False).double()
    stream = class_batches()
    first, second = ((x.double(), y) for x, y in itertools.islice(stream, 2))
    grads = torch.autograd.grad(
        F.cross_entropy(model(first[0]), first[1]), list(model.parameters())
    )
    x, y = _halves(first, second)
    slopes, losses = {}, []
    for name in dict(model.named_parameters()):
        losses = []
        for scale in (1 + 1e-5, 1 - 1e-5):
            moved = copy.deepcopy(model)
            with torch.no_grad():
                moved.get_parameter(name).mul_(scale)
                for parameter, grad in zip(moved.parameters(), grads, strict=True):
                    parameter.sub_(0.1 * (grad if update == "sgd" else 0.01 * grad.sign()))
            losses.append(F.cross_entropy(moved(x), y).item())
        slopes[name] = losses[0] - losses[1]
    report = gradinit_(
        model,
        [first, second],
        F.cross_entropy,
        optimizer=update,
        lr=0.1 if update == "sgd" else 0.001,
        num_steps=1,
        scale_lr=0.25,
        max_grad_norm=1e9,
    )
    assert report.steps[0].loss_after == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert {name: 1 - 0.25 * math.copysign(1, s) for name, s in slopes.items()} == pytest.approx(
        report.scales, rel=1e-5
    )


def test_the_second_batch_shares_half_of_the_first():
    first = torch.arange(6.0)[:, None], torch.arange(6)
    second = first[0] + 10, first[1] + 10
    inputs, targets = _halves(first, second)
    assert targets.tolist() == [0, 1, 2, 10, 11, 12]
    assert inputs[:, 0].tolist() == targets.tolist()
    lone = _halves((torch.zeros(1, 1), torch.zeros(1)), (torch.ones(1, 1), torch.ones(1)))
    assert lone[1].tolist() == [0.0]


def test_exploding_networks_come_back_under_the_bound():
    model = mlp(1.8)
    held_out = next(class_batches(9))
    before = grad_norm(model, held_out, "sgd")
    report = gradinit_(
        model, class_batches(), F.cross_entropy, optimizer="sgd", lr=0.1, scale_lr=0.02
    )
    assert before > 10 * report.max_grad_norm
    assert grad_norm(model, held_out, "sgd") < 1.5 * report.max_grad_norm
    assert report.steps[0].loss_after is None
    assert report.norm_steps < len(report.steps)


def test_vanishing_networks_learn_from_their_first_step():
    def loss_of_step(model):
        x, y = next(class_batches(9))
        loss = F.cross_entropy(model(x), y)
        grads = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(model.parameters(), grads, strict=True):
                parameter.sub_(0.1 * grad)
        return F.cross_entropy(model(x), y).item() - loss.item()

    model = mlp(0.4)
    gain = loss_of_step(copy.deepcopy(model))
    report = gradinit_(
        model, class_batches(), F.cross_entropy, optimizer="sgd", lr=0.1, scale_lr=0.05
    )
    assert loss_of_step(model) < 10 * gain < 0
    assert all(scale > 1 for name, scale in report.scales.items() if name.endswith("weight"))


def test_only_the_parameters_scales_change():
    torch.manual_seed(0)
    model = build("resnet", depth=2, width=4, batch_norm=True, dropout=0.3).train()
    model.head.bias.requires_grad_(False)
    before = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 1, 8, 8, generator=generator)
    y = torch.randint(10, (8,), generator=generator)
    state = torch.get_rng_state()
    report = gradinit_(
        model, itertools.repeat((x, y)), F.cross_entropy, optimizer="adam", lr=1e-3, num_steps=12
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    for (name, buffer), old in zip(model.named_buffers(), before.buffers(), strict=True):
        assert torch.equal(buffer, old), name
    for (name, parameter), old in zip(model.named_parameters(), before.parameters(), strict=True):
        assert parameter.grad is None
        torch.testing.assert_close(parameter, report.scales.get(name, 1.0) * old)
    zero = [name for name, p in before.named_parameters() if not p.any()]
    assert set(report.unscaled) == set(zero)
    assert "head.bias" not in {*report.scales, *report.unscaled}
    assert any(scale != 1 for scale in report.scales.values())


def test_it_runs_through_attention_and_token_inputs():
    torch.manual_seed(0)
    model = build("gpt", depth=2, width=16)
    (tokens,) = example_inputs("gpt")

    def loss(scores, targets):
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())

    batches = itertools.repeat((tokens, tokens.roll(-1, 1)))
    report = gradinit_(model, batches, loss, optimizer="adam", lr=1e-3, num_steps=4)
    assert len(report.steps) == 4
    assert "GradInit, 4 steps" in str(report)


def test_tied_and_unused_parameters():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False)
            self.second = nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight
            self.idle = nn.Linear(3, 3, bias=False)

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    torch.manual_seed(0)
    model = Tied()
    before = model.first.weight.detach().clone()
    batch = torch.randn(8, 3), torch.randint(3, (8,))
    report = gradinit_(
        model, itertools.repeat(batch), F.cross_entropy, optimizer="sgd", lr=0.1, num_steps=5
    )
    assert report.unscaled == ("idle.weight",)
    assert model.second.weight is model.first.weight
    torch.testing.assert_close(model.first.weight, report.scales["first.weight"] * before)


def test_scales_stay_above_their_bound():
    report = gradinit_(
        scalar(100.0),
        itertools.repeat(ONES),
        half_square,
        optimizer="sgd",
        lr=0.1,
        num_steps=40,
        scale_lr=0.1,
        min_scale=0.25,
    )
    assert report.scales["weight"] == 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": math.nan}, "lr=nan"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"scale_lr": -1.0}, "scale_lr=-1.0"),
        ({"min_scale": 0.0}, "min_scale=0.0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0"),
        ({"optimizer": "muon"}, "optimizer 'muon'"),
        ({"optimizer": "lamb"}, "lamb"),
        ({"num_steps": 3}, "batches that ended"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(settings, message):
    model = scalar(0.5)
    with pytest.raises(EtastarError, match=message):
        gradinit_(model, [ONES] * 4, half_square, **({"optimizer": "sgd", "lr": 0.1} | settings))
    assert model.weight.item() == 0.5
    assert model.training


def test_nothing_to_scale_and_overflow_are_refused():
    with pytest.raises(InitError, match="not zero"):
        gradinit_(scalar(0.0), [ONES], half_square, optimizer="sgd", lr=0.1)
    with pytest.raises(InitError, match="a loss of inf"):
        gradinit_(scalar(1e30), [ONES], half_square, optimizer="sgd", lr=0.1)
    with pytest.raises(InitError, match="loss after the step"):
        gradinit_(
            scalar(2.0), [ONES] * 2, half_square, optimizer="sgd", lr=1e30, max_grad_norm=10.0
        )
