"""Batched: what cannot be trained together, or is no gain, is trained alone, and said."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from etastar.sweep.executors import batched
from etastar.sweep.executors.batched import Batched
from etastar.sweep.executors.gain import MOST_BYTES, Finding
from etastar.sweep.executors.refusals import NoGainError
from etastar.sweep.executors.sequential import Sequential
from etastar.sweep.space import Budget
from tests.sweep.executors.training import (
    POINTS,
    SGD,
    SIZE,
    Adam,
    assert_like_sequential,
    experiment,
    global_batches,
)


class Wide(nn.Module):
    """A linear network beside many numbers of no effect, in double precision."""

    def __init__(self, count):
        super().__init__()
        self.layer = nn.Linear(10, 2).double()
        self.idle = nn.Parameter(torch.zeros(count, dtype=torch.float64))

    def forward(self, x):
        return self.layer(x.flatten(1))


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


def probed(monkeypatch, *, way):
    """A Batched whose probe says so, and the numbers of runs that were probed."""
    counts = []

    def told(run, most_steps, on_steps):
        counts.append(len(run.lanes))
        run.step()
        on_steps(len(run.active))
        if way == "sequential":
            raise NoGainError("so told")
        return "" if way == "vectorised" else "so told"

    monkeypatch.setattr(batched, "reason_for_turns", told)
    return Batched(), counts


@pytest.mark.parametrize("way", ["vectorised", "in turn", "sequential"])
def test_a_probe_decides_once_for_so_many_runs_of_a_size(way, monkeypatch):
    executor, counts = probed(monkeypatch, way=way)
    ways, real = [], batched.StackedRun.step

    def seen(run, *, vectorised=True):
        ways.append(vectorised)
        real(run, vectorised=vectorised)

    monkeypatch.setattr(batched.StackedRun, "step", seen)
    wanted, steps = experiment(budget=Budget(50, 4)), []
    for _ in range(2):
        assert_like_sequential(executor, wanted)
        assert executor.note == ("" if way == "vectorised" else f"width=6: {way}, since so told")
    assert counts == [9]
    assert {"vectorised": 100, "in turn": 1, "sequential": 1}[way] == sum(ways)
    assert len(ways) == (1 if way == "sequential" else 100)
    records = list(executor.run(wanted, (("width", 7),), POINTS, on_step=steps.append))
    assert counts == [9, 9]
    assert sum(steps) == sum(record.steps for record in records)


@pytest.mark.parametrize("way", ["in turn", "sequential"])
def test_what_is_no_gain_is_tried_again_with_more_runs_only(way, monkeypatch):
    executor, counts = probed(monkeypatch, way=way)
    wanted = experiment(budget=Budget(50, 4))
    for count in (4, 3, 4, 5, 2):
        list(executor.run(wanted, SIZE, POINTS[:count]))
    assert counts == [4, 5]


def test_models_too_large_for_a_cache_are_trained_alone(monkeypatch):
    wanted = experiment(factory=lambda width: Wide(MOST_BYTES // 8 + width), budget=Budget(50, 4))
    executor, counts = probed(monkeypatch, way="vectorised")
    assert_like_sequential(executor, wanted, POINTS[:2])
    assert "1.0 MiB" in executor.note
    assert not counts
    assert_like_sequential(Batched(probe_steps=0), wanted, POINTS[:2])


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

    def told(run, most_steps, on_steps):
        lengths.append(most_steps)
        return ""

    monkeypatch.setattr(batched, "reason_for_turns", told)
    for num_steps in (50, 149, 300):
        wanted = experiment(budget=Budget(num_steps, 4))
        list(Batched(probe_steps=4).run(wanted, SIZE, POINTS[:2]))
    assert lengths == [1, 2, 4]


class Fickle(nn.Module):
    """Uses one of its layers or the other, by its seed."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(10, 2).double() for _ in range(2))
        self.chosen = torch.initial_seed() % 2

    def forward(self, x):
        return self.layers[self.chosen](x.flatten(1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"factory": Fickle}, "others have none"),
        ({"loss_fn": lambda *pair: F.mse_loss(*pair).unsqueeze(0)}, "not one number"),
    ],
)
def test_what_cannot_be_updated_together_is_trained_alone_and_said(changes, reason, monkeypatch):
    told = Finding("in turn", "so told")
    monkeypatch.setattr(Batched, "_finding", lambda *_: told)
    executor = Batched(probe_steps=0)
    assert_like_sequential(executor, experiment(**changes))
    assert executor.note.startswith("width=6: sequential, since ")
    assert reason in executor.note


def test_a_loss_of_one_number_in_a_list_is_not_vectorised():
    executor = Batched(probe_steps=0)
    assert_like_sequential(
        executor, experiment(loss_fn=lambda *pair: F.mse_loss(*pair).unsqueeze(0))
    )
    assert "not one number" in executor.note


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
