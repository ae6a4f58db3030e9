"""Weights that a layer reads side by side with others, or a slice of one, have the layer's fans."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar import Tuned, capture_graph, initialize_, plan_transfer

FORMS = {
    "matmul, joined outputs": lambda h, a, b: h @ torch.cat([a, b], 1),
    "matmul, joined inputs": lambda h, a, b: h @ torch.cat([a, b]),
    "linear, joined outputs": lambda h, a, b: F.linear(h, torch.cat([a, b])),
    "linear, joined inputs": lambda h, a, b: F.linear(h, torch.cat([a, b], 1)),
    "turned, then joined": lambda h, a, b: h @ torch.cat([a.T, b.T], 1),
    "kernels": lambda h, a, b: F.conv1d(h[:, :, None], torch.cat([a, b]))[:, :, 0],
}
SHAPES = {  # of each of two weights, for a layer of 12 to 40
    "matmul, joined outputs": [(12, 30), (12, 10)],
    "matmul, joined inputs": [(8, 40), (4, 40)],
    "linear, joined outputs": [(30, 12), (10, 12)],
    "linear, joined inputs": [(40, 8), (40, 4)],
    "turned, then joined": [(30, 12), (10, 12)],
    "kernels": [(30, 12, 1), (10, 12, 1)],
}


class Joined(nn.Module):
    def __init__(self, form, times=1):
        super().__init__()
        self.form = FORMS[form]
        self.stem, self.head = nn.Linear(5, 12 * times), nn.Linear(40 * times, 3)
        shapes = [(a * times, b * times, *kernel) for a, b, *kernel in SHAPES[form]]
        self.one, self.two = (nn.Parameter(torch.randn(*shape)) for shape in shapes)

    def forward(self, x):
        return self.head(self.form(torch.tanh(self.stem(x)), self.one, self.two))


def infos(model):
    return {info.name: info for info in capture_graph(model, torch.zeros(2, 5)).parameters}


@pytest.mark.parametrize("form", FORMS)
def test_each_of_two_joined_weights_has_the_fans_of_the_layer(form):
    found = infos(Joined(form))
    outputs = [40, 40] if "inputs" in form else [30, 10]
    for name, made in zip(("one", "two"), outputs, strict=True):
        info = found[name]
        assert (info.fan_in, info.fan_out) == (12, made)
        assert (info.features_in, info.features_out) == (12, made)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("optimizer", "factor"), [("adamw", 1 / 2), ("sgd", 1.0), ("shampoo", 1.0)]
)
def test_joined_weights_have_the_factor_of_hidden_weights_over_width(form, optimizer, factor):
    base, target = ((Joined(form, times), torch.zeros(2, 5)) for times in (1, 2))
    plan = plan_transfer(Tuned(base, lr=1.0), target, optimizer=optimizer, law="constant")
    rates = {entry.name: entry.lr for entry in plan.parameters}
    assert (rates["one"], rates["two"]) == pytest.approx((factor, factor))


def test_a_slice_of_a_weight_has_the_fans_of_the_layer_that_reads_it():
    class Sliced(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.packed = nn.Linear(5, 12), nn.Parameter(torch.randn(12, 36))

        def forward(self, x):
            return torch.tanh(self.stem(x)) @ self.packed[:, :10]

    model = Sliced()
    assert infos(model)["packed"].fan_in == 12
    drawn = initialize_(model, capture_graph(model, torch.zeros(2, 5)), seed=0)
    (packed,) = (entry for entry in drawn.entries if entry.name == "packed")
    assert packed.std == pytest.approx((packed.gain / 12) ** 0.5)


def test_factors_of_a_weight_are_not_joined():
    class Factors(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
            self.down, self.up = (nn.Parameter(torch.randn(*s)) for s in ((6, 12), (12, 6)))

        def forward(self, x):
            return self.head(F.linear(torch.tanh(self.stem(x)), self.up @ self.down))

    found = infos(Factors())
    assert (found["down"].fan_in, found["down"].features_out) == (12, 0)
    assert (found["up"].fan_in, found["up"].features_in) == (6, 0)
