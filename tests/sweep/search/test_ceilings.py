"""Ceilings, from runs whose gain is known."""

from dataclasses import replace
from math import inf, nan

import pytest
import torch
from torch import nn

from etastar.sweep.record import TrialRecord
from etastar.sweep.search import Context, OptunaSearch
from etastar.sweep.search.ceilings import with_ceilings
from etastar.sweep.space import Budget, Experiment, Point
from etastar.sweep.study import run_sweep

SIZE = (("width", 8),)


def run(loss, *, lr=0.1, seed=0, initial_loss=2.0, losses=(2.0, 0.0), **changes):
    point = Point(lr, seed)
    return TrialRecord(SIZE, point, loss, losses, loss == inf, 2, initial_loss, **changes)


def ceiling(*finished, seed=0):
    (point,) = with_ceilings([Point(0.5, seed)], finished)
    assert point == Point(0.5, seed)
    return point.ceiling


def test_it_is_half_of_the_gain_of_the_best_run():
    assert ceiling(run(1.0), run(0.5, lr=0.2), run(inf, lr=0.4)) == 1.25


def test_each_seed_has_its_own():
    assert ceiling(run(1.0), run(0.5, seed=1), seed=1) == 1.25
    assert ceiling(run(1.0), run(0.5, seed=1), seed=2) == inf


@pytest.mark.parametrize(
    "finished",
    [
        [],
        [run(inf)],
        [run(2.5)],
        [run(2.0)],
        [run(0.5, losses=(2.0, -1.0))],
        [run(0.5, losses=())],
        [run(0.5, initial_loss=nan)],
        [run(inf, stopped=True)],
    ],
    ids=["none", "diverged", "worse", "as before", "negative", "no losses", "NaN", "stopped"],
)
def test_without_a_whole_run_that_gained_there_is_none(finished):
    assert ceiling(*finished) == inf


def network(width):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


def batches(seed, batch_size, num_steps):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        inputs = torch.randn(batch_size, 4, generator=generator)
        yield inputs, inputs.sum(1, keepdim=True).sin()


def swept(search):
    experiment = Experiment(
        network,
        batches,
        nn.functional.mse_loss,
        lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        Budget(60, 32),
    )
    return run_sweep(experiment, [dict(SIZE)], search=search, seeds=(0, 1)).sizes[0]


def test_the_optimum_is_the_same_with_fewer_steps():
    rates = OptunaSearch(1e-4, 10.0, num_trials=12, sampler="qmc")  # they depend on no loss
    stopping, whole = swept(rates), swept(replace(rates, stop_hopeless=False))
    assert stopping.num_stopped > 0 == whole.num_stopped
    assert stopping.steps < whole.steps
    assert stopping.optimum.lr == whole.optimum.lr
    for trial, full in zip(stopping.trials, whole.trials, strict=True):
        assert trial.losses == full.losses[: len(trial.losses)]
        assert trial.loss == (inf if trial.stopped else full.loss)
        assert not trial.stopped or full.loss > 1.1 * whole.optimum.lowest_loss


def test_the_sampler_is_told_how_far_a_stopped_run_had_come():
    search = OptunaSearch(0.01, 1.0, num_trials=30, sampler_options={"n_startup_trials": 2})

    def proposals(stopped_losses):
        context, finished = Context(SIZE, (0,), (), 10), []
        for _ in range(12):
            (point,) = search.propose(finished, context)
            low = point.lr < 0.1
            losses = stopped_losses if low else (2.0, 1.0)
            loss = inf if low else point.lr
            finished.append(TrialRecord(SIZE, point, loss, losses, False, 2, 2.0, stopped=low))
        return [run.point.lr for run in finished]

    assert proposals((9.0, 9.0)) == proposals((9.0, 9.0)) != proposals((0.0, 0.0))
