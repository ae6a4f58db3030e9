"""Vectors that are contracted with features: planned and drawn as a layer of one output."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.graph.capture import capture_graph
from etastar.init import initialize_
from etastar.transfer import Tuned, plan_transfer

X = torch.zeros(2, 5, 4)
_PRODUCTS = {
    "matmul": lambda h, v: h @ v,
    "sum": lambda h, v: (h * v).sum(-1),
    "sum of all": lambda h, v: (v * h).sum(dim=(1, 2))[:, None],
    "einsum": lambda h, v: torch.einsum("btd,d->bt", h, v),
    "linear": lambda h, v: F.linear(h, v[None])[..., 0],
}


class Scored(nn.Module):
    """Two layers, and a score of each position; or a sum of positions, weighted by it."""

    def __init__(self, width, product=None, *, pooled=False):
        super().__init__()
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 3) if pooled else None
        self.product = product
        if product is None:
            self.vector = nn.Linear(width, 1, bias=False)
        else:
            self.vector = nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, x):
        h = torch.tanh(self.second(torch.tanh(self.first(x))))
        is_layer = self.product is None
        scores = self.vector(h)[..., 0] if is_layer else self.product(h, self.vector)
        if self.head is None:
            return scores
        return self.head((scores.softmax(-1)[..., None] * h).sum(1))


def planned(optimizer, product=None, **options):
    base, target = ((Scored(width, product, **options), X) for width in (8, 32))
    tuned = Tuned(base, 0.1, weight_decay=0.1)
    plan = plan_transfer(tuned, target, optimizer=optimizer, law="constant")
    return {
        entry.name.removesuffix(".weight"): (entry.lr, entry.weight_decay, entry.init)
        for entry in plan.parameters
    }


@pytest.mark.parametrize("product", _PRODUCTS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_vector_that_reads_features_is_planned_as_a_readout(product, optimizer):
    found = planned(optimizer, _PRODUCTS[product])
    assert found == planned(optimizer)
    assert found["vector"][0] == pytest.approx(0.1 / 4)


@pytest.mark.parametrize("product", ["matmul", "sum"])
def test_a_vector_that_scores_positions_is_a_hidden_weight(product):
    assert planned("adamw", _PRODUCTS[product], pooled=True) == planned("adamw", pooled=True)
    model = Scored(8, _PRODUCTS[product], pooled=True)
    roles = {p.name: p.role for p in capture_graph(model, X).parameters}
    assert (roles["vector"], roles["second.weight"], roles["head.weight"]) == (
        "hidden",
        "hidden",
        "output",
    )


def test_it_is_drawn_as_a_layer_is():
    model, layered = Scored(4096, _PRODUCTS["sum"]), Scored(4096)
    for one in (model, layered):
        initialize_(one, capture_graph(one, X))
    drawn, expected = model.vector.std().item(), layered.vector.weight.std().item()
    assert drawn == pytest.approx(expected, rel=0.05)


def test_a_vector_that_weighs_layers_or_scales_features_reads_none():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.by_layer = nn.Parameter(torch.ones(3))
            self.gain = nn.Parameter(torch.ones(4))

        def forward(self, x):
            states = torch.stack([layer(x) for layer in self.layers])
            return torch.einsum("lbtd,l->btd", states, self.by_layer) * self.gain

    roles = {p.name: p.role for p in capture_graph(Mixed(), X).parameters}
    assert (roles["by_layer"], roles["gain"]) == ("bias", "norm")
