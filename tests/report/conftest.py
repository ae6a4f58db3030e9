"""One result of every kind, small; names that a page must survive."""

import pytest
import torch
from torch import nn

import etastar
from etastar.fit import fit_power_law
from etastar.sweep.recipe import Point
from etastar.sweep.result import SizeResult, SweepResult, size_optimum
from etastar.sweep.trial import TrialRecord


def chain(depth=2, width=16):
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 4))


def sweep_of(depths, lrs, num_seeds, num_steps=3):
    """Runs of parabolas whose minimum moves with depth as depth^-1.5; rates above 50 diverge."""

    def trial(depth, lr, seed):
        best, diverged = 0.1 * depth**-1.5, lr > 50
        loss = 1 + (torch.tensor(lr / best).log10().item()) ** 2 + 0.01 * seed
        return TrialRecord(
            (("depth", depth),),
            Point(lr, seed),
            float("inf") if diverged else loss,
            (loss,) * num_steps,
            diverged,
            num_steps,
            3.0,
            versions=(("torch", "2.9.0"),),
        )

    results = []
    for depth in depths:
        runs = tuple(trial(depth, lr, seed) for lr in lrs for seed in range(num_seeds))
        results.append(SizeResult(runs[0].size, runs, size_optimum(runs)))
    return SweepResult(tuple(results), (("optimizer", "sgd"),), (("name", "grid"),))


@pytest.fixture(scope="session")
def make_sweep():
    return sweep_of


@pytest.fixture(scope="session")
def sweep():
    return sweep_of((1, 2, 4), [10 ** (k / 2) for k in range(-8, 5)], 3)


@pytest.fixture(scope="session")
def plan():
    sizes = [(chain(depth), torch.zeros(1, 16)) for depth in (2, 8)]
    return etastar.plan_transfer(
        etastar.Tuned(sizes[0], 0.1), sizes[1], optimizer="adamw", law="effective-depth"
    )


@pytest.fixture(scope="session")
def results(sweep, plan):
    """By name, of every kind but those of a store."""
    torch.manual_seed(0)
    batch = torch.randn(8, 16), torch.randn(8, 4)
    loss = nn.functional.mse_loss
    depths = [{"depth": 1}, {"depth": 2}, {"depth": 4}]
    widths = [{"width": 16}, {"width": 32}]

    def wide(width):
        return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 4))

    def adam(model):
        return torch.optim.Adam(model.parameters(), 1e-2)

    return {
        "plan": plan,
        "depth": etastar.capture_graph(chain(4), torch.zeros(1, 16)).depth(),
        "update": etastar.measure_update(chain, batch, loss, optimizer="sgd", seeds=3),
        "scan": etastar.scan_updates(chain, depths, batch, loss, optimizer="sgd", seeds=2),
        "coordinates": etastar.coordinate_check(wide, widths, batch, loss, optimizer=adam),
        "stability": etastar.check_stability(chain(3), batch, loss),
        "sweep": sweep,
        "law": fit_power_law([2, 8, 32], [one.optimum for one in sweep.sizes]),
    }


@pytest.fixture(scope="session")
def evil_name():
    """More than 300 characters, all of which may stand in the name of a module."""
    return '<script>alert("x")</script>&<b>\'"' + "long" * 70


@pytest.fixture(scope="session")
def evil_results(evil_name):
    net = nn.Sequential()
    for k in range(3):
        net.add_module(f"{k}{evil_name}", nn.Linear(16, 16))
    batch = torch.randn(4, 16), torch.randn(4, 16)
    loss = nn.functional.mse_loss
    tuned = etastar.Tuned((net, batch[0]), 0.1)
    return [
        etastar.capture_graph(net, batch[0]),
        etastar.measure_update(net, batch, loss, optimizer="sgd"),
        etastar.plan_transfer(tuned, (net, batch[0]), optimizer="sgd", law="effective-depth"),
        {"rules": [{"rule": evil_name, "lr": 0.1, "loss": 1.0, "relative_regret": 0.1}]},
    ]


@pytest.fixture(scope="session")
def many_runs():
    return sweep_of((1, 2, 4, 8), [10 ** (k / 10 - 4) for k in range(50)], 10, num_steps=200)
