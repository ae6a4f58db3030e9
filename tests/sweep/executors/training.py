"""What the tests of `Batched` train, and what they compare it with."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from etastar.sweep.executors.sequential import Sequential
from etastar.sweep.space import Budget, Experiment, Point

POINTS = tuple(Point(lr, seed) for lr in (0.003, 0.03, 0.1) for seed in (0, 1, 2))
SIZE = (("width", 6),)


class Network(nn.Module):
    """A convolution with BatchNorm, a tied pair of layers, a frozen and an unused parameter."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv1d(2, width, 3, padding=1)
        self.norm = nn.BatchNorm1d(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.unused = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(width, 2)
        self.head.bias.requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen = self.seen + x.square().mean()
        x = torch.relu(self.norm(self.stem(x))).mean(-1)
        return self.head(self.second(torch.tanh(self.first(x)))) / (1 + self.seen)


def network(width):
    return Network(width).double()


def global_batches(seed, batch_size, num_steps):
    """Drawn from the global random numbers, which a run's seed decides."""
    for _ in range(num_steps):
        inputs = torch.randn(batch_size, 2, 5, dtype=torch.float64)
        yield inputs, inputs.mean(-1)


def held_out(model):
    return F.mse_loss(model(torch.ones(3, 2, 5).double()), torch.zeros(3, 2)).item()


def held_out_at_random(model):
    inputs = torch.randn(3, 2, 5, dtype=torch.float64)
    return F.mse_loss(model(inputs), inputs.mean(-1)).item()


def groups(model, lr):
    first, *rest = model.parameters()
    return [{"params": [first], "lr": 3 * lr, "weight_decay": 0.1}, {"params": rest}]


SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
OPTIMIZERS = {
    "sgd": lambda model, lr: SGD(model.parameters(), lr),
    "momentum": lambda model, lr: SGD(model.parameters(), lr, momentum=0.9, dampening=0.2),
    "nesterov": lambda model, lr: SGD(
        model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "adam": lambda model, lr: Adam(model.parameters(), lr, betas=(0.8, 0.95), weight_decay=0.1),
    "adam, its eps by lr": lambda model, lr: Adam(model.parameters(), lr, eps=lr / 10),
    "adamw": lambda model, lr: AdamW(model.parameters(), lr, weight_decay=0.5),
    "sgd by groups": lambda model, lr: SGD(groups(model, lr), lr, momentum=0.5),
    "adamw by groups": lambda model, lr: AdamW(groups(model, lr), lr, eps=1e-3),
    "a part": lambda model, lr: SGD(model.head.parameters(), lr),
}


def experiment(make_optimizer=OPTIMIZERS["nesterov"], **changes):
    parts = {
        "factory": network,
        "batches": global_batches,
        "loss_fn": F.mse_loss,
        "budget": Budget(25, 4, "validation"),
        "evaluate": held_out_at_random,
    }
    return Experiment(make_optimizer=make_optimizer, **(parts | changes))


def assert_like_sequential(executor, wanted, points=POINTS, *, rel=1e-9):
    expected = list(Sequential().run(wanted, SIZE, points))
    found = list(executor.run(wanted, SIZE, points))
    assert [record.point for record in found] == list(points)
    for record, other in zip(found, expected, strict=True):
        finite = len(other.losses) - other.diverged
        assert len(record.losses) == len(other.losses)
        assert record.losses[:finite] == pytest.approx(other.losses[:finite], rel=rel)
        assert record.loss == pytest.approx(other.loss, rel=rel)
        assert (record.steps, record.diverged) == (other.steps, other.diverged)
        assert record.initial_loss == pytest.approx(other.initial_loss, rel=rel)
    return found
