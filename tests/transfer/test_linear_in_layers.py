"""How many calls and objects a plan makes for a layer: of a deep network as of a shallow one."""

import cProfile

import pytest
import torch
from torch import nn

from etastar import Tuned, capture_graph, plan_transfer


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return x + self.outer(self.inner(self.norm(x)).relu())


def chain(depth):
    return nn.Sequential(*(m for _ in range(depth) for m in (nn.Linear(4, 4), nn.Tanh())))


def residual(depth):
    return nn.Sequential(nn.Linear(4, 4), *(Block() for _ in range(depth)))


def calls(make, depth):
    x = torch.zeros(1, 4)
    base, target = (capture_graph(make(n), x) for n in (depth // 2, depth))
    tuned = Tuned(base, 0.1)
    for graph in (base, target):
        graph.depth()
    profile = cProfile.Profile()
    profile.runcall(plan_transfer, tuned, target, optimizer="sgd")
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("make", [chain, residual])
def test_calls_grow_as_layers_do(make):
    calls(make, 2)  # what is imported at the first
    few, some, many = (calls(make, depth) for depth in (4, 10, 22))
    assert (many - some) / 12 < 1.05 * (some - few) / 6


@pytest.mark.parametrize("make", [chain, residual])
def test_equal_factors_are_kept_once(make):
    base, target = ((make(depth), torch.zeros(1, 4)) for depth in (3, 9))
    plan = plan_transfer(Tuned(base, 0.1), target, optimizer="adamw", law="complete-p")
    kept = [entry.factors for entry in plan.parameters]
    assert len({id(factors) for factors in kept}) == len(set(kept)) < len(kept)
