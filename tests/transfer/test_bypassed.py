"""Plans for networks whose shortest path by-passes layers: the interval holds either count."""

import math

import pytest
import torch
from torch import nn

from etastar.transfer import DefaultChoice, Experience, Tuned, plan_transfer


def plan(base, target):
    law = DefaultChoice(Experience())
    return plan_transfer(Tuned(base, 0.01), target, optimizer="adamw", law=law)


def half(plan):
    """Half the length of the interval of log lr."""
    low, high = map(math.log, plan.lr_interval)
    return (high - low) / 2


class Concatenating(nn.Module):
    """Layers that read all before them, as in DenseNet: the effective depth is 2 at any size."""

    def __init__(self, depth):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8 * (depth + 1), 3)
        self.layers = nn.ModuleList(nn.Linear(8 * (k + 1), 8) for k in range(depth))

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return self.last(x)


class UNet(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.down, self.up = (
            nn.ModuleList(nn.Linear(size, 8) for _ in range(depth)) for size in (8, 16)
        )
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        kept = [x := self.first(x)]
        for layer in self.down:
            kept.append(x := torch.relu(layer(x)))
        for layer in self.up:
            x = torch.relu(layer(torch.cat([x, kept.pop()], 1)))
        return self.last(x)


@pytest.mark.parametrize(("net", "depth"), [(Concatenating, 2), (UNet, 4)])
def test_by_passed_layers_widen_the_interval(net, depth):
    x = torch.zeros(2, 8)
    base, target = ((net(size), x) for size in (3, 12))
    found = plan(base, target)
    assert (found.base.depth, found.target_depth) == (depth, depth)
    per_layer = {Concatenating: 1, UNet: 2}[net]
    gap = math.log((12 * per_layer + 2) / (3 * per_layer + 2))
    mean, sd = (float(n) for n in found.why.split("exponent ")[1].split(")")[0].split(" +- "))
    extra = math.hypot(mean, sd) * gap
    assert half(found) == pytest.approx(1.96 * math.hypot(0.15, extra), rel=0.02)
    assert "tune a second size" in found.why
    assert any("the shortest path by-passes" in note for note in found.notes)
    same = plan(base, base)
    assert half(same) == pytest.approx(1.96 * 0.15)
