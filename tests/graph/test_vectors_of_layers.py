"""Gains and biases of all layers in one tensor, and vectors that are products of several."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar import Tuned, capture_graph, initialize_, plan_transfer

K, D = 3, 16


class Blocks(nn.Module):
    """K blocks `x + relu(linear(x) * gain(k) + bias(k))`, or without the skip."""

    def __init__(self, gain=None, bias=None, *, depth=K, skip=True, scale="after", **parts):
        super().__init__()
        self.gain, self.bias, self.skip, self.scale = gain, bias, skip, scale
        self.layers = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(depth))
        self.head = nn.Linear(D, 2)
        for name, value in parts.items():
            setattr(self, name, nn.Parameter(value))

    def forward(self, x):
        for k, layer in enumerate(self.layers):
            h = layer(x)
            if self.gain is not None:
                h = h * self.gain(self, k)
            if self.bias is not None:
                h = h + self.bias(self, k)
            x = x + h if self.skip else torch.relu(h)
        return self.head(x)


def row(table, k):
    return table[k]


def looked_up(table, k):
    return F.embedding(torch.tensor(k), table)


def indexed(table, k):
    return table.index_select(0, torch.tensor([k]))[0]


GAINS = {
    "times one number": (lambda m, k: m.read(m.g, k) * m.a, {"a": (1,)}, D, 0),
    "times one number a layer": (lambda m, k: m.read(m.g, k) * m.a[k], {"a": (K,)}, D, 0),
    "times a vector": (lambda m, k: m.read(m.g, k) * m.a, {"a": (D,)}, D, D),
    "times another table": (lambda m, k: m.read(m.g, k) * m.a[k], {"a": (K, D)}, D, D),
    "one and more, times": (lambda m, k: (1 + m.read(m.g, k)) * m.a, {"a": (D,)}, D, D),
    "alone": (lambda m, k: m.read(m.g, k), {}, D, None),
    "mean over layers": (lambda m, _: m.g.mean(0), {}, D, None),
}


@pytest.mark.parametrize("read", [row, looked_up, indexed])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("name", GAINS)
def test_a_table_of_gains_is_gains(name, skip, read):
    gain, others, features, theirs = GAINS[name]
    parts = {n: torch.ones(shape) for n, shape in others.items()}
    model = Blocks(gain, skip=skip, g=torch.ones(K, D), **parts)
    model.read = read
    found = {info.name: info for info in capture_graph(model, torch.randn(4, D)).parameters}
    assert (found["g"].role, found["g"].features_out) == ("norm", features)
    if others:
        assert (found["a"].role, found["a"].features_out) == ("norm", theirs)
    initialize_(model, capture_graph(model, torch.randn(4, D)), seed=0)
    assert torch.equal(model.g, torch.ones(K, D))


BIASES = {
    "alone": (lambda m, k: m.read(m.b, k), {}),
    "times one number": (lambda m, k: m.read(m.b, k) * m.a, {"a": torch.ones(1)}),
    "and another": (lambda m, k: m.read(m.b, k) + m.a[k], {"a": torch.zeros(K, D)}),
}


@pytest.mark.parametrize("read", [row, looked_up, indexed])
@pytest.mark.parametrize("name", BIASES)
def test_a_table_of_biases_is_biases(name, read):
    bias, parts = BIASES[name]
    model = Blocks(bias=bias, b=torch.zeros(K, D), **parts)
    model.read = read
    graph = capture_graph(model, torch.randn(4, D))
    found = {info.name: info for info in graph.parameters}
    assert (found["b"].role, found["b"].features_out) == ("bias", D)
    initialize_(model, graph, seed=0)
    assert torch.equal(model.b, torch.zeros(K, D))


class OneBias(nn.Module):
    """Fused additions: `addmm` and a norm's shift read rows of tables."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, D, D))
        self.shift, self.gain = nn.Parameter(torch.zeros(2, D)), nn.Parameter(torch.ones(2, D))
        self.bias = nn.Parameter(torch.zeros(2, D))

    def forward(self, x):
        for k in range(2):
            x = F.linear(F.layer_norm(x, (D,), self.gain[k], self.shift[k]), torch.eye(D))
            x = F.linear(x, self.weight[k], self.bias[k]).relu()
        return x


def test_rows_of_tables_that_fused_operations_read():
    found = {i.name: i.role for i in capture_graph(OneBias(), torch.randn(4, D)).parameters}
    assert (found["bias"], found["shift"], found["gain"]) == ("bias", "bias", "norm")


def test_tables_of_positions_and_tokens_stay_embeddings():
    class Tables(nn.Module):
        def __init__(self):
            super().__init__()
            self.place, self.kind = nn.Parameter(torch.randn(5, D)), nn.Embedding(2, D)
            self.tokens, self.first = nn.Parameter(torch.randn(2, D)), nn.Linear(D, D)
            self.last = nn.Linear(D, 2)

        def forward(self, x):
            kinds = torch.zeros(x.shape[:2], dtype=torch.long)
            x = self.first(x + self.place[: x.shape[1]] + self.kind(kinds))
            return self.last(torch.cat([self.tokens.expand(len(x), 2, D), x], 1))

    found = {i.name: i.role for i in capture_graph(Tables(), torch.randn(3, 5, D)).parameters}
    assert {found[n] for n in ("place", "kind.weight", "tokens")} == {"embedding"}


@pytest.mark.parametrize("law", ["complete-p", "depth-mup"])
def test_a_factor_on_a_product_of_gains_is_applied_once(law):
    """On neither factor, as each would count, but on the layer whose output they multiply."""

    class Own(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.stem, self.head = nn.Linear(D, D), nn.Linear(D, 2)
            self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(depth))
            self.g = nn.ParameterList(torch.ones(D) for _ in range(depth))
            self.a = nn.ParameterList(torch.ones(1) for _ in range(depth))

        def branch(self, k, x):
            return self.layers[k](x) * (self.g[k] * self.a[k])

        def forward(self, x):
            x = self.stem(x)
            for k in range(len(self.layers)):
                x = x + self.branch(k, x)
            return self.head(x)

    x, model = torch.randn(4, D), Own(8)
    plan = plan_transfer(Tuned((Own(2), (x,)), 0.1), (model, (x,)), optimizer="adamw", law=law)
    before = model.branch(3, x).detach()
    plan.rescale_(model)
    torch.testing.assert_close(model.branch(3, x), before * (0.25 if law == "complete-p" else 0.5))
