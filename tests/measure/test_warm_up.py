"""The criterion after real steps, and in its self-consistent form."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.measure import measure_update


def chain(depth=3, width=16):
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 4))


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 16, generator=generator), torch.randint(4, (5,), generator=generator)


def stream(seed):
    generator = torch.Generator().manual_seed(100 + seed)
    while True:
        yield torch.randn(5, 16, generator=generator), torch.randint(4, (5,), generator=generator)


def test_after_steps_the_next_step_is_measured_on_other_examples():
    torch.manual_seed(0)
    model = chain()
    report = measure_update(
        model, batch(), F.cross_entropy, optimizer="adam", after=3, lr=0.01, batches=stream
    )
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    batches = stream(0)
    for _ in range(3):
        inputs, targets = next(batches)
        optimizer.zero_grad()
        F.cross_entropy(twin(inputs), targets).backward()
        optimizer.step()
    direct = measure_update(
        twin, batch(), F.cross_entropy, optimizer=optimizer, probe=next(batches), lr_unit=0.01
    )
    # told per unit of the rate: of 1 in the first report, of 0.01 in the second
    assert report.eta_star == pytest.approx(direct.eta_star, rel=1e-3)
    assert (report.after, report.lr, report.cost_steps) == (3, 0.01, 4)


def test_the_self_consistent_rate_reproduces_itself():
    torch.manual_seed(0)
    model = chain()
    found = measure_update(
        model, batch(), F.cross_entropy, optimizer="adam", after=4, kappa=0.5, batches=stream
    )
    assert found.converged
    assert found.rounds >= 1
    assert found.cost_steps == 1 + found.rounds * 5
    assert found.lr == pytest.approx(0.5 * found.eta_star, rel=0.06)
