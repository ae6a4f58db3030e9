"""A factor that a network puts on its branches itself is a part of the residual rule's 1/K."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.transfer import Tuned, plan_transfer

WIDTH = 256


class Scaled(nn.Module):
    """One-layer branches, times `factor` where `form` says."""

    def __init__(self, depth, factor, form):
        super().__init__()
        self.stem, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 3)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(depth))
        self.factor, self.form = factor, form

    def branch(self, layer, x):
        x = F.layer_norm(x, (WIDTH,))
        return layer(x * self.factor) if self.form == "before" else layer(x) * self.factor

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = x + self.branch(layer, x)
        return self.head(x)


class TwoLayers(nn.Module):
    """Convolutions; `add(alpha=)` scales what the second makes."""

    def __init__(self, depth, factor, form):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 3)
        self.first = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(depth))
        self.factor = factor

    def forward(self, x):
        x = self.stem(x)
        for first, layer in zip(self.first, self.layers, strict=True):
            x = torch.add(x, layer(F.relu(first(F.relu(x)))), alpha=self.factor)
        return self.head(x.mean((2, 3)))


NETS = {
    "behind": (Scaled, torch.ones(4, 8)),
    "before": (Scaled, torch.ones(4, 8)),
    "alpha": (TwoLayers, torch.ones(2, 3, 6, 6)),
}


def entries(form, depth, factor, **settings):
    cls, x = NETS[form]
    model = cls(depth, factor, form)
    return model, initialize_(model, capture_graph(model, x), seed=0, **settings)


@pytest.mark.parametrize("form", NETS)
@pytest.mark.parametrize(
    ("factor", "share"),
    [(1.0, 1 / 16), (0.5, 1 / 4), (1 / 4, 1.0), (1 / 16, 1.0), (2.0, 1 / 64)],
)
def test_what_the_branch_adds_has_one_over_k_once(form, factor, share):
    _, report = entries(form, 16, factor)
    entry, plain = report["layers.3.weight"], entries(form, 16, 1.0)[1]["layers.3.weight"]
    assert (entry.std / plain.std) ** 2 == pytest.approx(share * 16)
    assert ("the network's own factor" in entry.why) == (factor != 1)
    if form == "alpha":  # the first layer of a branch keeps the rule
        assert report["first.3.weight"].factor == pytest.approx(1 / 16)
    alone = entries(form, 16, factor, residual="none")[1]["layers.3.weight"]
    assert "own factor" not in alone.why


@pytest.mark.parametrize("form", ["behind", "before"])
def test_the_stream_grows_alike_with_and_without_the_factor(form):
    def growth(depth, factor):
        model, _ = entries(form, depth, factor)
        x = model.stem(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)))
        start = x.square().mean()
        for layer in model.layers:
            x = x + model.branch(layer, x)
        return float((x.square().mean() - start).detach())  # of branches that do not see the stem

    for depth in (4, 36):
        plain = growth(depth, 1.0)
        assert plain == pytest.approx(1.0, rel=0.15)
        assert growth(depth, depth**-0.5) == pytest.approx(plain, rel=0.15)
        assert growth(depth, 1 / depth) == pytest.approx(plain / depth, rel=0.5)


@pytest.mark.parametrize("form", NETS)
def test_networks_that_were_drawn_so_are_drawn_alike(form):
    base, target = (entries(form, depth, depth**-0.5)[0] for depth in (4, 16))
    x = NETS[form][1]
    plan = plan_transfer(Tuned((base, x), 0.1), (target, x), optimizer="sgd", law="structure")
    assert not any("initialize both alike" in note for note in plan.notes)
    assert any("by 0.5 from base to target" in note for note in plan.notes)
    assert math.isfinite(plan.lr)
