"""Branches without layers, or beside what is of the stream alone, carry a multiplier on a gain."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import etastar
from etastar.errors import LawError


class Pooling(nn.Module):
    """`x + gamma (pool(norm(x)) - norm(x))`, then a layer (PoolFormer)."""

    def __init__(self, width, *, is_scaled=True):
        super().__init__()
        self.norm, self.layer = nn.GroupNorm(1, width), nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.randn(width, 1, 1)) if is_scaled else 1.0
        self.skip = nn.Parameter(torch.ones(width, 1, 1))

    def mixed(self, x):
        x = self.norm(x)
        return self.gamma * (F.avg_pool2d(x, 3, 1, 1) - x)

    def forward(self, x):
        x = self.skip * x + self.mixed(x)
        return x + self.layer(x)


class Beside(nn.Module):
    """A layer on the first rows, the others as they came through the norm (XCiT's last blocks)."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(8), nn.Linear(8, 8)
        self.gamma = nn.Parameter(torch.randn(8))

    def mixed(self, x):
        x = self.norm(x)
        return self.gamma * torch.cat([self.layer(x[:, :, :1] + x[:, :, 1:2]), x[:, :, 1:]], 2)

    def forward(self, x):
        return x + self.mixed(x)


class Net(nn.Module):
    def __init__(self, block, depth, **settings):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList(block(4, **settings) for _ in range(depth))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


EXAMPLE = torch.zeros(2, 3, 8, 8)


def _plan(block, optimizer="adamw", **settings):
    torch.manual_seed(0)
    base, target = Net(block, 2, **settings), Net(block, 6, **settings)
    tuned = etastar.Tuned((base, EXAMPLE), 0.01)
    plan = etastar.plan_transfer(tuned, (target, EXAMPLE), optimizer=optimizer, law="complete-p")
    return plan, target


@pytest.mark.parametrize("block", [Pooling, Beside])
def test_the_gain_multiplies_what_the_branch_adds_and_nothing_else(block):
    plan, target = _plan(block)
    x = torch.randn(2, 4, 8, 8)
    before = [one.mixed(x) for one in target.blocks]
    skips = [one.skip.clone() for one in target.blocks if block is Pooling]
    plan.rescale_(target)
    for one, was in zip(target.blocks, before, strict=True):
        torch.testing.assert_close(one.mixed(x), was / 3)
    for one, was in zip(target.blocks, skips, strict=False):
        torch.testing.assert_close(one.skip, was)


def test_what_stands_on_a_branch_without_layers_has_the_rates_of_the_branch():
    rates = {entry.name: entry.lr for entry in _plan(Pooling, "sgd")[0].parameters}
    for name in ("norm.weight", "norm.bias"):
        assert rates[f"blocks.3.{name}"] == pytest.approx(0.03), name  # K^(2 alpha - 1)
    for name in ("gamma", "layer.weight"):  # what holds the multiplier: its square beside
        assert rates[f"blocks.3.{name}"] == pytest.approx(0.03 / 9), name
    assert rates["blocks.3.skip"] == rates["stem.weight"] == pytest.approx(0.01)


def test_a_branch_of_pooling_alone_is_refused():
    with pytest.raises(LawError, match="cannot carry a multiplier"):
        _plan(Pooling, is_scaled=False)
