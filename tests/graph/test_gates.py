"""The factor of a product that only weighs the other one is no way through a branch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.graph.addends import gating_operands
from etastar.graph.capture import capture_graph

X = torch.zeros(2, 8)


def squeeze_excite(m, k, h):
    h = torch.relu(m.a[k](h))
    return m.b[k](h * F.hardsigmoid(m.e[k](torch.relu(m.g[k](h.mean(0, keepdim=True))))))


def experts(m, k, h):
    weights, _ = m.g[k](h).softmax(-1).topk(2)
    weights = weights / weights.sum(-1, keepdim=True)
    outputs = [m.b[k](torch.relu(m.a[k](h))), m.e[k](torch.relu(m.a[k](h)))]
    return sum(weights[:, i : i + 1] * output for i, output in enumerate(outputs))


GATED = {
    "sigmoid behind the branch": lambda m, k, h: (
        m.b[k](F.silu(m.a[k](h))) * torch.sigmoid(m.g[k](h))
    ),
    "gate first": lambda m, k, h: torch.sigmoid(m.g[k](h)) * m.b[k](torch.tanh(m.a[k](h))),
    "SwiGLU": lambda m, k, h: m.b[k](F.silu(m.g[k](h)) * m.a[k](h)),
    "deep gate": lambda m, k, h: m.b[k](m.a[k](h)) * m.e[k](torch.relu(m.g[k](h))).sigmoid(),
    "squeeze and excite": squeeze_excite,
    "experts": experts,
}


def blocks(branch, network, linears, count=3):
    def run(self, h):
        h = self.stem(h)
        for k in range(count):
            h = h + branch(self, k, h)
        return self.head(h)

    layers = {name: linears(count) for name in "abge"}
    return network(run, stem=nn.Linear(8, 8), **layers, head=nn.Linear(8, 2))


@pytest.mark.parametrize("name", GATED)
def test_gate_changes_nothing_for_the_other_weights_of_its_branch(name, network, linears):
    plain = blocks(lambda m, k, h: m.b[k](torch.relu(m.a[k](h))), network, linears)
    places = [
        {
            info.name: (info.branch_position, info.branch_length, info.branch_last, info.stream)
            for info in capture_graph(model, X).parameters
        }
        for model in (plain, blocks(GATED[name], network, linears))
    ]
    for weight in ("a", "b"):
        for k in range(3):
            assert places[0][f"{weight}.{k}.weight"] == places[1][f"{weight}.{k}.weight"]


@pytest.mark.parametrize("name", GATED)
def test_weights_of_a_gate_are_on_the_branch_but_end_no_way(name, network, linears):
    infos = {i.name: i for i in capture_graph(blocks(GATED[name], network, linears), X).parameters}
    gate = infos["g.1.weight"]
    assert (gate.stream_additions, gate.branch, gate.branch_length) == (3, 1, 2)
    assert not gate.branch_last
    assert infos["b.1.weight"].branch_scale


def test_branch_that_is_nothing_but_a_gate_has_its_layers_as_ways(network, linears):
    model = blocks(
        lambda m, k, h: h * torch.sigmoid(m.b[k](torch.relu(m.a[k](h)))), network, linears
    )
    infos = {i.name: i for i in capture_graph(model, X).parameters}
    assert infos["b.0.weight"].branch_last
    assert infos["b.0.weight"].branch_length == 2


@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: a * b,
        lambda a, b: torch.relu(a) * torch.relu(b),
        lambda a, b: a.sigmoid() * b.sigmoid(),
    ],
)
def test_factors_that_are_alike_are_both_ways(product, network):
    model = network(lambda m, h: product(m.a(h), m.b(h)), a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    assert gating_operands(capture_graph(model, X).nodes) == {}
