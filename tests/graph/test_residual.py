"""Residual streams and branches, on networks whose structure is known."""

import pytest
import torch
from torch import nn

from etastar.graph import capture_graph
from etastar.graph.residual import find_residuals


class Block(nn.Module):
    """x + last(relu(first(x))), or x + last(x)."""

    def __init__(self, width, layers=2, shortcut=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.shortcut = nn.Linear(width, width) if shortcut else nn.Identity()

    def forward(self, x):
        y = x
        for layer in self.layers:
            y = layer(torch.relu(y))
        return self.shortcut(x) + y


def residuals(model, *inputs):
    graph = capture_graph(model, *inputs)
    branches = find_residuals(graph.contraction)
    streams = {b.stream: b.stream_additions for b in branches if b.stream is not None}
    assert all(sum(b.stream == stream for b in branches) == k for stream, k in streams.items())
    return graph, branches, tuple(streams.values())


X = torch.zeros(2, 4)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_one_stream_of_k_additions(blocks, layers):
    model = nn.Sequential(nn.Linear(4, 4), *(Block(4, layers) for _ in range(blocks)))
    _, branches, additions = residuals(model, X)
    assert additions == (blocks,)
    assert [branch.index for branch in branches] == list(range(blocks))
    assert all(branch.length == layers for branch in branches)
    assert all(len(branch.last) == 1 and branch.fan == 1 for branch in branches)
    assert all(sorted(b.positions.values()) == list(range(layers)) for b in branches)


def test_a_projected_shortcut_is_skip_and_the_stream_goes_on():
    model = nn.Sequential(nn.Linear(4, 4), Block(4), Block(4, shortcut=True), Block(4))
    graph, branches, additions = residuals(model, X)
    assert additions == (3,)
    modules = {graph.nodes[node].module for branch in branches for node in branch.positions}
    assert "2.shortcut" not in modules


def test_parallel_branches_are_two_of_one_addition():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x):
            h = self.stem(x)
            return self.a(h) + self.c(torch.relu(self.b(h))) + h

    graph, branches, additions = residuals(Parallel(), X)
    (branch,) = branches
    assert (branch.fan, branch.length, additions) == (2, 2, (1,))
    assert {graph.nodes[n].module: p for n, p in branch.positions.items()} == {
        "a": 0,
        "b": 0,
        "c": 1,
    }
    assert {graph.nodes[n].module for n in branch.last} == {"a", "c"}


def test_a_sum_of_equal_branches_has_no_skip_and_no_stream():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.b = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            h = self.stem(x)
            return self.a(h) + self.b(h)

    _, branches, additions = residuals(Sum(), X)
    (branch,) = branches
    assert (branch.stream, branch.fan, additions) == (None, 2, ())


def test_nested_additions_are_streams_of_their_own():
    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.e1, self.e2, self.mid, self.d2, self.d1 = (nn.Linear(4, 4) for _ in range(5))

        def forward(self, x):
            h1 = self.e1(x)
            h2 = self.e2(torch.relu(h1))
            h2 = h2 + self.mid(torch.relu(h2))
            return h1 + self.d1(torch.relu(h2))

    graph, _, additions = residuals(UNet(), X)
    assert additions == (1, 1)
    stream_of = {info.name: info.stream for info in graph.parameters}
    assert stream_of["mid.weight"] == 0
    assert stream_of["e2.weight"] == stream_of["d1.weight"] == 1
    assert stream_of["e1.weight"] is None


def test_sum_of_two_sources_has_no_stream():
    class TwoTowers(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, y):
            return self.a(x) + self.b(y)

    _, branches, additions = residuals(TwoTowers(), X, X)
    (branch,) = branches
    assert (branch.stream, branch.fan, additions) == (None, 2, ())


def test_cross_attention_branch_leaves_the_encoder_out():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec, self.q, self.kv, self.o, self.kv2 = (
                nn.Linear(4, 4) for _ in range(6)
            )

        def forward(self, x, y):
            h, memory = self.dec(y), self.enc(x)  # the encoder runs after the fork
            h = h + self.o(self.q(h) @ self.kv(memory).T @ self.kv(memory))
            return h + self.q(h) @ self.kv2(memory).T @ memory

    graph, branches, _ = residuals(Decoder(), X, X)
    assert "enc" not in {graph.nodes[n].module for b in branches for n in b.positions}
