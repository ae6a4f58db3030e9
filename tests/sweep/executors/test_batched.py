"""Batched: runs trained together are those trained alone."""

import pytest
import torch
from torch import nn

from etastar.sweep.executors import batched
from etastar.sweep.executors.batched import Batched
from etastar.sweep.executors.gain import Finding
from etastar.sweep.executors.stacked_run import StackedRun
from etastar.sweep.space import Budget, Point
from tests.sweep.executors.training import (
    OPTIMIZERS,
    Network,
    assert_like_sequential,
    experiment,
    global_batches,
)


class Alternating(StackedRun):
    """Changes its way every other step."""

    def step(self, *, vectorised):
        super().step(vectorised=self.steps_left % 4 < 2)


@pytest.fixture(params=["vectorised", "in turn", "either way"])
def forced(request, monkeypatch):
    """Makes a Batched that trains in this way and fails where it would run a point alone."""

    def make(**options):
        def alone(*args, **kwargs):
            raise AssertionError(executor.note)

        monkeypatch.setattr(batched, "run_point", alone)
        executor = Batched(probe_steps=0, **options)
        return executor

    if request.param == "in turn":
        told = Finding("in turn", "so told")
        monkeypatch.setattr(Batched, "_finding", lambda *_: told)
    if request.param == "either way":
        monkeypatch.setattr(batched, "StackedRun", Alternating)
    return make


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_known_optimizer_trains_as_it_does_alone(name, forced):
    assert_like_sequential(forced(), experiment(OPTIMIZERS[name]))


def test_in_single_precision_records_agree_to_its_rounding(forced):
    def single(seed, batch_size, num_steps):
        for inputs, targets in global_batches(seed, batch_size, num_steps):
            yield inputs.float(), targets.float()

    wanted = experiment(
        OPTIMIZERS["momentum"], factory=Network, batches=single, budget=Budget(25, 4)
    )
    # rounding of 6e-8 per operation, grown over 25 steps
    assert_like_sequential(forced(), wanted, rel=1e-4)


def test_one_seed_shares_its_batches(forced):
    points = tuple(Point(lr, 5) for lr in (0.01, 0.02))
    assert_like_sequential(forced(), experiment(), points)


def linear(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 2).double())


def test_a_run_that_diverges_stops_at_its_step_and_leaves_the_others_alone(forced):
    points = tuple(Point(lr, seed) for lr in (1e4, 0.01, 1.5, 4.0) for seed in (0, 1))
    wanted = experiment(OPTIMIZERS["momentum"], factory=linear)
    found = assert_like_sequential(forced(), wanted, points)
    assert len({record.steps for record in found}) > 2
    assert {record.diverged for record in found} == {True, False}


class Counting(nn.Module):
    """A linear network that divides by a number which it puts in the place of another."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(10, 2).double()
        self.register_buffer("seen", torch.ones(()).double())

    def forward(self, x):
        self.seen = self.seen + x.square().mean()
        return self.layer(x.flatten(1)) / self.seen.sqrt()


def test_what_the_others_have_put_in_a_buffer_outlives_a_run_that_diverges(forced):
    points = (Point(6.0, 0), Point(0.01, 0), Point(0.1, 1))
    wanted = experiment(OPTIMIZERS["momentum"], factory=Counting)
    found = assert_like_sequential(forced(), wanted, points)
    assert [record.diverged for record in found] == [True, False, False]
    assert 1 < found[0].steps < 25


def test_all_runs_may_diverge(forced):
    points = (Point(1e7, 0), Point(1e8, 1))
    found = assert_like_sequential(forced(), experiment(), points, rel=1e-6)
    assert all(record.diverged for record in found)


def test_no_more_runs_are_trained_together_than_asked_for(forced, monkeypatch):
    sizes = []
    real = batched.StackedRun

    def counted(experiment, size, points, **options):
        sizes.append(len(points))
        return real(experiment, size, points, **options)

    monkeypatch.setattr(batched, "StackedRun", counted)
    assert_like_sequential(forced(max_batch=3), experiment())
    assert sizes == [3, 3, 3]
