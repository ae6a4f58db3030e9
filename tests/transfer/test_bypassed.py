"""Plans for networks whose shortest path by-passes layers: the interval holds either count."""

import math

import pytest
import torch
from torch import nn

from etastar.errors import LawError
from etastar.laws import EffectiveDepth
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


class Injected(nn.Module):
    """Every block mixes the first state in again."""

    def __init__(self, depth):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))

    def forward(self, x):
        x = start = self.first(x)
        for layer in self.layers:
            x = x + torch.relu(layer(x))
            x = 0.9 * x + 0.1 * start
        return self.last(x)


class Values(nn.Module):
    """Every block adds an embedding of the tokens of its own, as value embeddings do."""

    def __init__(self, depth):
        super().__init__()
        self.tokens, self.last = nn.Embedding(7, 8), nn.Linear(8, 7)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.values = nn.ModuleList(nn.Embedding(7, 8) for _ in range(depth))

    def forward(self, tokens):
        x = self.tokens(tokens)
        for layer, values in zip(self.layers, self.values, strict=True):
            x = x + torch.relu(layer(nn.functional.rms_norm(x, (8,)))) + values(tokens)
        return self.last(x)


class SkipsBetweenBlocks(nn.Module):
    """Block k adds its input to that of block n - k, as a U-Net without concatenation."""

    def __init__(self, depth):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2 * depth))

    def forward(self, x):
        kept, x = [], self.first(x)
        for number, layer in enumerate(self.layers):
            if number < len(self.layers) // 2:
                kept.append(x)
            else:
                x = x + kept.pop()
            x = torch.relu(layer(x))
        return self.last(x)


TOKENS = torch.zeros(2, 3, dtype=torch.long)
mixing = pytest.mark.parametrize(
    ("net", "x"),
    [(Injected, torch.zeros(2, 8)), (Values, TOKENS), (SkipsBetweenBlocks, torch.zeros(2, 8))],
)


def named(net, x, sizes, law):
    base, target = ((net(size), x) for size in sizes)
    return plan_transfer(Tuned(base, 0.01), target, optimizer="adamw", law=law)


@mixing
def test_a_law_in_a_depth_that_does_not_grow_is_refused_with_the_path(net, x):
    first = "tokens" if net is Values else "first"
    with pytest.raises(LawError, match=rf"path {first}|path values.*by-passes .* of .* layers"):
        named(net, x, (3, 12), "effective-depth")
    assert named(net, x, (3, 3), "effective-depth").lr == 0.01
    counted = named(net, x, (3, 12), EffectiveDepth(count="layers"))
    assert counted.lr == pytest.approx(0.01 * counted.parameters[0].factors[0][1].lr)
    assert counted.lr < 0.005


@mixing
def test_the_default_choice_counts_layers_where_the_stream_mixes_an_earlier_state(net, x):
    found = named(net, x, (3, 12), DefaultChoice(Experience()))
    assert "count=layers" in found.law
    exponent = dict(found.laws[0].options)["exponent"]
    layers = {Injected: 14 / 5, Values: 13 / 4, SkipsBetweenBlocks: 26 / 8}[net]
    if net is not Values:
        assert found.lr == pytest.approx(0.01 * layers**exponent)
    several = [Tuned((net(size), x), lr) for size, lr in ((3, 0.01), (6, 0.006))]
    fitted = plan_transfer(several, (net(12), x), optimizer="adamw", law="fitted")
    assert fitted.lr < 0.006
    assert dict(fitted.laws[0].options)["count"] == "layers"


def test_concatenations_are_noted_and_not_refused():
    x = torch.zeros(2, 8)
    for net in (Concatenating, UNet):
        found = named(net, x, (3, 12), "effective-depth")
        assert found.parameters[0].lr == 0.01
        assert any("the shortest path by-passes" in note for note in found.notes)


class Flow(nn.Module):
    """Affine couplings with a permutation after each: a part of the input may stay as it is."""

    def __init__(self, depth):
        super().__init__()
        self.couplings = nn.ModuleList(nn.Linear(4, 8) for _ in range(depth))

    def forward(self, x):
        for layer in self.couplings:
            kept, changed = x.chunk(2, 1)
            scale, shift = layer(kept).chunk(2, 1)
            x = torch.cat([kept, changed * scale.exp() + shift], 1).flip(1)
        return x


def test_layers_are_counted_where_a_part_of_the_input_passes_none():
    x = torch.zeros(2, 8)
    base, target = (Flow(3), x), (Flow(12), x)
    found = plan(base, target)
    assert (found.base.depth, found.target_depth) == (0, 0)
    assert "tune a second size" in found.why
    layers = EffectiveDepth(count="layers")
    assert plan_transfer(Tuned(base, 0.01), target, optimizer="sgd", law=layers).lr == 0.01 / 8
    with pytest.raises(LawError, match="a part of the input by-passes 12 of 12 weight layers"):
        plan_transfer(Tuned(base, 0.01), target, optimizer="sgd", law="effective-depth")
