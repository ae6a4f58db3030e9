"""Batched: runs trained as one are those trained alone; what cannot be is run alone, and said."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from etastar.sweep.executors import batched
from etastar.sweep.executors.batched import Batched
from etastar.sweep.executors.gain import NoGainError
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


def forced(monkeypatch, **options):
    """A Batched that fails where it would run a point alone."""

    def alone(*args, **kwargs):
        raise AssertionError(executor.note)

    monkeypatch.setattr(batched, "run_point", alone)
    executor = Batched(probe_steps=0, **options)
    return executor


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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_known_optimizer_trains_as_it_does_alone(name, monkeypatch):
    assert_like_sequential(forced(monkeypatch), experiment(OPTIMIZERS[name]))


def test_in_single_precision_records_agree_to_its_rounding(monkeypatch):
    def single(seed, batch_size, num_steps):
        for inputs, targets in global_batches(seed, batch_size, num_steps):
            yield inputs.float(), targets.float()

    wanted = experiment(
        OPTIMIZERS["momentum"], factory=Network, batches=single, budget=Budget(25, 4)
    )
    # rounding of 6e-8 per operation, grown over 25 steps
    assert_like_sequential(forced(monkeypatch), wanted, rel=1e-4)


def test_one_seed_shares_its_batches(monkeypatch):
    points = tuple(Point(lr, 5) for lr in (0.01, 0.02))
    assert_like_sequential(forced(monkeypatch), experiment(), points)


def linear(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 2).double())


def test_a_run_that_diverges_stops_at_its_step_and_leaves_the_others_alone(monkeypatch):
    points = tuple(Point(lr, seed) for lr in (1e4, 0.01, 1.5, 4.0) for seed in (0, 1))
    wanted = experiment(OPTIMIZERS["momentum"], factory=linear)
    found = assert_like_sequential(forced(monkeypatch), wanted, points)
    assert len({record.steps for record in found}) > 2
    assert {record.diverged for record in found} == {True, False}


def test_all_runs_may_diverge(monkeypatch):
    points = (Point(1e7, 0), Point(1e8, 1))
    found = assert_like_sequential(forced(monkeypatch), experiment(), points, rel=1e-6)
    assert all(record.diverged for record in found)


def test_no_more_runs_are_trained_together_than_asked_for(monkeypatch):
    sizes = []
    real = batched.StackedRun

    def counted(experiment, size, points, **options):
        sizes.append(len(points))
        return real(experiment, size, points, **options)

    monkeypatch.setattr(batched, "StackedRun", counted)
    assert_like_sequential(forced(monkeypatch, max_batch=3), experiment())
    assert sizes == [3, 3, 3]


class Halved(nn.Module):
    """What no vmap can do: a decision on a number."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(2, 2).double()

    def forward(self, x):
        x = self.layer(x.mean(-1))
        return x / 2 if x.mean().item() > 0 else x


class Recurrent(nn.Module):
    """An LSTM over positions."""

    def __init__(self, width):
        super().__init__()
        self.cells = nn.LSTM(2, 2, batch_first=True).double()

    def forward(self, x):
        return self.cells(x.transpose(1, 2))[0][:, -1]


def dropping(width):
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(10, 2).double())


def hooked(model, lr):
    optimizer = SGD(model.parameters(), lr)
    optimizer.register_step_pre_hook(lambda *_: None)
    return optimizer


def warm(model, lr):
    optimizer = SGD(model.parameters(), lr, momentum=0.9)
    model(torch.ones(2, 2, 5).double()).sum().backward()
    optimizer.step()
    return optimizer


ALONE = {
    "item": ({"factory": Halved}, "item"),
    "recurrent": ({"factory": Recurrent}, ""),
    "dropout": ({"factory": dropping}, "random"),
    "unknown": ({"make_optimizer": lambda m, lr: torch.optim.RMSprop(m.parameters(), lr)}, "RMS"),
    "amsgrad": ({"make_optimizer": lambda m, lr: Adam(m.parameters(), lr, amsgrad=True)}, "amsg"),
    "maximize": ({"make_optimizer": lambda m, lr: SGD(m.parameters(), lr, maximize=True)}, "maxi"),
    "hook": ({"make_optimizer": hooked}, "hook"),
    "warm": ({"make_optimizer": warm}, "state"),
    "mixed": (
        {"make_optimizer": lambda m, lr: SGD(m.parameters(), lr, momentum=0.9 * (lr > 0.01))},
        "momentum is on in some runs",
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_cannot_be_trained_as_one_is_trained_alone_and_said(name):
    changes, reason = ALONE[name]
    executor, counts = Batched(probe_steps=0), []
    wanted = experiment(**({"budget": Budget(6, 4)} | changes))
    expected = list(Sequential().run(wanted, SIZE, POINTS))
    assert list(executor.run(wanted, SIZE, POINTS, on_step=counts.append)) == expected
    assert executor.note.startswith("width=6: sequential, since ")
    assert reason in executor.note
    assert sum(counts) == sum(record.steps for record in expected)


def probed(monkeypatch, *, has_gain):
    """A Batched whose probe says so, and the numbers of runs that were probed."""
    counts = []

    def told(run, most_steps, on_steps):
        counts.append(len(run.lanes))
        if not has_gain:
            run.step()
            on_steps(len(run.active))
            raise NoGainError("no gain")

    monkeypatch.setattr(batched, "require_gain", told)
    return Batched(), counts


@pytest.mark.parametrize("has_gain", [True, False])
def test_a_probe_decides_once_for_so_many_runs_of_a_size(has_gain, monkeypatch):
    executor, counts = probed(monkeypatch, has_gain=has_gain)
    wanted, steps = experiment(budget=Budget(50, 4)), []
    for _ in range(2):
        assert_like_sequential(executor, wanted)
        assert executor.note == ("" if has_gain else "width=6: sequential, since no gain")
    assert counts == [9]
    records = list(executor.run(wanted, (("width", 7),), POINTS, on_step=steps.append))
    assert counts == [9, 9]
    assert sum(steps) == sum(record.steps for record in records)


def test_what_is_no_gain_is_tried_again_with_more_runs_only(monkeypatch):
    executor, counts = probed(monkeypatch, has_gain=False)
    wanted = experiment(budget=Budget(50, 4))
    for count in (4, 3, 4, 5, 2):
        list(executor.run(wanted, SIZE, POINTS[:count]))
    assert counts == [4, 5]


def test_what_cannot_be_vectorised_is_not_built_again_for_as_many_runs_or_more(monkeypatch):
    counts, real = [], batched.StackedRun

    def counted(experiment, size, points, **options):
        counts.append(len(points))
        return real(experiment, size, points, **options)

    monkeypatch.setattr(batched, "StackedRun", counted)
    executor, wanted = Batched(probe_steps=0), experiment(hooked)
    for count in (4, 5, 4, 3):
        list(executor.run(wanted, SIZE, POINTS[:count]))
        assert "hook" in executor.note
    assert counts == [4, 3]


def test_few_steps_are_not_worth_a_probe():
    executor = Batched()
    assert_like_sequential(executor, experiment(budget=Budget(49, 4)))
    assert "too few" in executor.note


def test_a_probe_is_a_fiftieth_of_the_steps(monkeypatch):
    lengths = []
    monkeypatch.setattr(batched, "require_gain", lambda run, most, on_steps: lengths.append(most))
    for num_steps in (50, 149, 300):
        wanted = experiment(budget=Budget(num_steps, 4))
        list(Batched(probe_steps=4).run(wanted, SIZE, POINTS[:2]))
    assert lengths == [1, 2, 4]


def test_draws_that_depend_on_the_rate_are_followed():
    def drawing(model, lr):
        torch.rand(int(lr * 1000))
        return SGD(model.parameters(), lr)

    executor = Batched(probe_steps=0)
    assert_like_sequential(executor, experiment(drawing))
    assert "random numbers" in executor.note


def test_batches_that_end_early_are_the_error_of_a_sequential_run():
    short = experiment(batches=partial(_only, 3))
    with pytest.raises(ValueError, match="3 batches for num_steps=25"):
        list(Batched(probe_steps=0).run(short, SIZE, POINTS))


def _only(count, seed, batch_size, num_steps):
    return global_batches(seed, batch_size, count)
