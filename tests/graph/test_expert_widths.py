"""Experts in one tensor, applied by einsum, bmm or a gather: their number is no width."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.graph.capture import capture_graph
from etastar.init import initialize_
from etastar.transfer import Tuned, plan_transfer

X = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))


class Experts(nn.Module):
    """Gated experts of width 2 x features; (experts, in, out), or (experts, out, in)."""

    def __init__(self, how, features, experts):
        super().__init__()
        shape = (experts, 2 * features, features)
        out_first = how == "linear"
        self.router = nn.Linear(features, experts)
        self.up = nn.Parameter(torch.randn(shape if out_first else (shape[0], *shape[:0:-1])))
        self.bias = nn.Parameter(torch.zeros(experts, 2 * features))
        self.down = nn.Parameter(torch.randn((shape[0], *shape[:0:-1]) if out_first else shape))
        self.how = how

    def forward(self, x):
        return getattr(self, self.how)(x, self.router(x).softmax(-1))

    def together(self, x, gates):
        """All experts at once, their outputs weighted and summed."""
        h = F.gelu(torch.einsum("bti,eio->bteo", x, self.up) + self.bias)
        return (gates[..., None] * torch.einsum("bteo,eoi->btei", h, self.down)).sum(-2)

    def joint(self, x, gates):
        """The sum over experts within the second product."""
        h = F.gelu(torch.einsum("bti,eio->bteo", x, self.up) + self.bias)
        return torch.einsum("bteo,eoi->bti", h * gates[..., None], self.down)

    def linear(self, x, gates):
        """The same for weights that are stored (experts, out, in)."""
        h = F.gelu(torch.einsum("bti,eoi->bteo", x, self.up) + self.bias)
        return (gates[..., None] * torch.einsum("bteo,eio->btei", h, self.down)).sum(-2)

    def batched(self, x, gates):
        """A batch of products, one of each expert."""
        flat = x.flatten(0, 1).expand(len(self.up), -1, -1)
        h = F.gelu(torch.bmm(flat, self.up) + self.bias[:, None])
        return torch.bmm(h, self.down).sum(0).view_as(x) * gates.amax(-1, keepdim=True)

    def gathered(self, x, gates):
        """Every token takes the weights of its own expert."""
        chosen = gates.argmax(-1).flatten()
        h = torch.einsum("ti,tio->to", x.flatten(0, 1), self.up[chosen]) + self.bias[0]
        return torch.einsum("to,toi->ti", F.gelu(h), self.down[chosen]).view_as(x)


class Net(nn.Module):
    def __init__(self, how, features=8, experts=4):
        super().__init__()
        self.stem = nn.Linear(8, features)
        self.experts = Experts(how, features, experts)
        self.head = nn.Linear(features, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.experts(F.layer_norm(x, x.shape[-1:])))


HOW = ["together", "joint", "linear", "batched", "gathered"]


@pytest.mark.parametrize("how", HOW)
def test_fans_and_features_are_those_of_one_expert(how):
    infos = {info.name: info for info in capture_graph(Net(how), X).parameters}
    up, down = infos["experts.up"], infos["experts.down"]
    assert (up.role, up.fan_in, up.fan_out) == ("hidden", 8, 16)
    assert (up.features_in, up.features_out) == (8, 16)
    assert (down.role, down.fan_in, down.fan_out) == ("hidden", 16, 8)
    assert (down.features_in, down.features_out) == (16, 8)
    if how != "gathered":
        bias = infos["experts.bias"]
        assert (bias.role, bias.features_out) == ("bias", 16)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("how", HOW)
def test_more_experts_change_no_rate(how, optimizer):
    def factors(target):
        plan = plan_transfer(
            Tuned((Net(how), X), 0.1), (target, X), optimizer=optimizer, law="constant"
        )
        found = {e.name: (e.lr, e.eps) for e in plan.parameters}
        return {name: found[f"experts.{name}"] for name in ("up", "bias", "down")}

    few = factors(Net(how))
    assert factors(Net(how, experts=12)) == few
    wide = factors(Net(how, 32))
    assert factors(Net(how, 32, experts=12)) == wide
    rate = 0.1 if optimizer == "sgd" else 0.025
    assert wide["up"][0] == wide["down"][0] == pytest.approx(rate)


@pytest.mark.parametrize("how", HOW)
def test_weights_are_drawn_for_the_terms_of_one_expert(how):
    model = Net(how)
    report = initialize_(model, capture_graph(model, X), residual="none", seed=0)
    assert report["experts.up"].fan_in == 8
    assert report["experts.down"].fan_in == 16


class Heads(nn.Module):
    """Attention whose weights are (heads, in, head size): all heads together are the width."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (
            nn.Parameter(torch.randn(4, *shape)) for shape in ((8, 2), (8, 2), (8, 2), (2, 8))
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = (torch.einsum("btd,hdf->bhtf", x, w) for w in (self.query, self.key, self.value))
        made = F.scaled_dot_product_attention(q, k, v)
        return self.head(x + torch.einsum("bhtf,hfd->btd", made, self.out))


def test_heads_of_an_attention_stay_a_width():
    infos = {info.name: info for info in capture_graph(Heads(), X).parameters}
    assert {infos[n].features_out for n in ("query", "key", "value", "out")} == {8}
    assert infos["out"].fan_in == infos["out"].features_in == 8


class OnEdges(nn.Module):
    """A sum over inputs of learned functions of each, in powers of it (KAN)."""

    def __init__(self, equation, read, made, powers=3):
        super().__init__()
        letters = equation.split(",")[1].split("->")[0]
        sizes = {"i": read, "o": made, "p": powers}
        self.table = nn.Parameter(torch.randn([sizes[letter] for letter in letters]))
        self.equation = equation

    def forward(self, x):
        basis = torch.stack([torch.tanh(x) ** n for n in range(1, 4)], dim=-1)
        return torch.einsum(self.equation, basis, self.table)


@pytest.mark.parametrize("equation", ["bip,oip->bo", "bip,iop->bo", "bip,pio->bo"])
def test_functions_on_the_edges_of_a_graph_are_no_experts(equation):
    def network(width):
        sizes = (4, width, width, width, 2)
        layers = [OnEdges(equation, *both) for both in pairwise(sizes)]
        return nn.Sequential(*layers), torch.zeros(1, 4)

    found = [info.fan_in for info in capture_graph(*network(8)).parameters]
    assert found == [12, 24, 24, 24]
    plan = plan_transfer(Tuned(network(8), 1.0), network(32), optimizer="adam", law="constant")
    assert [entry.lr for entry in plan.parameters] == [1, 1 / 4, 1 / 4, 1 / 4]


@pytest.mark.parametrize(
    "layers",
    [
        lambda n: (nn.Conv1d(1, n, 10), nn.GELU(), nn.Conv1d(n, n, 3), nn.Conv1d(n, n, 3)),
        lambda n: (
            nn.Conv1d(3, n, 1),
            nn.ReLU(),
            nn.Conv1d(n, 2 * n, 1),
            nn.Conv1d(2 * n, 2 * n, 1),
            nn.Conv1d(2 * n, n, 1),
        ),
        lambda n: (nn.Conv1d(3, n, 1), nn.Conv1d(n, n, 5, groups=n), nn.ReLU(), nn.Conv1d(n, n, 1)),
    ],
    ids=["waveform", "points", "depthwise"],
)
def test_kernels_of_one_dimension_are_no_experts(layers):
    def network(width):
        pooled = nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(width, 3)
        return nn.Sequential(*layers(width), *pooled), torch.zeros(
            2, layers(width)[0].in_channels, 40
        )

    for optimizer, by_fan_in in (("sgd", {1: 4, 4: 1}), ("adam", {1: 1, 4: 1 / 4})):
        plan = plan_transfer(
            Tuned(network(8), 1.0), network(32), optimizer=optimizer, law="constant"
        )
        rates = {entry.name: entry.lr for entry in plan.parameters}
        small, big = network(8)[0], network(32)[0]
        for name, module in small.named_children():
            if isinstance(module, nn.Conv1d):
                ratio = big.get_submodule(name).weight.shape[1] // module.weight.shape[1]
                assert rates[f"{name}.weight"] == by_fan_in[ratio]
