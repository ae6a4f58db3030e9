"""Layers that the shortest path by-passes are said, with the paths known on paper."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from numpy.polynomial import Polynomial
from torch import nn

from etastar.graph.capture import capture_graph
from etastar.graph.paths import bypassed_layers, shortest_path
from etastar.graph.residual import find_residuals

X = torch.zeros(2, 8)
x = Polynomial([0, 1])


def missed(model, *inputs):
    """Modules that the shortest path by-passes."""
    graph = capture_graph(model, *inputs)
    contraction = graph.contraction
    outputs = graph.depth().outputs
    on_path = [step.module for step in graph.depth().path if step.counted_as == "weight layer"]
    branches = find_residuals(contraction)
    path = _nodes(graph)
    found = [graph.nodes[n].module for n in bypassed_layers(contraction, outputs, path, branches)]
    assert not set(found) & set(on_path)
    return found


def _nodes(graph):
    return shortest_path(graph.contraction, graph.depth().outputs)


def notes(model, *inputs):
    return capture_graph(model, *inputs).depth().notes


def dense(network, layers):
    """Every layer reads the concatenation of all before, one layer a block."""

    def run(self, h):
        h = self.stem(h)
        for layer in self.layers:
            h = torch.cat([h, layer(torch.relu(h))], -1)
        return self.head(h)

    widths = [8 * (k + 1) for k in range(layers)]
    found = nn.ModuleList(nn.Linear(width, 8) for width in widths)
    return network(run, stem=nn.Linear(8, 8), layers=found, head=nn.Linear(8 * (layers + 1), 2))


@pytest.mark.parametrize("layers", [3, 6])
def test_dense_block(layers, network, has_paths):
    model = dense(network, layers)
    assert has_paths(capture_graph(model, X).depth(), x**2 * (1 + x) ** layers)
    assert missed(model, X) == [f"layers.{k}" for k in range(layers)]
    (note,) = notes(model, X)
    assert note.startswith(f"the shortest path by-passes {layers} of {layers + 2} weight layers")
    assert "layers.*" in note


@pytest.mark.parametrize("levels", [1, 3])
def test_unet_with_concatenated_skips(levels, network, linears, has_paths):
    def run(self, h):
        h, skips = self.stem(h), []
        for layer in self.down:
            skips.append(h)
            h = torch.relu(layer(h))
        for layer in self.up:
            h = torch.relu(layer(torch.cat([h, skips.pop()], -1)))
        return self.head(h)

    up = nn.ModuleList(nn.Linear(16, 8) for _ in range(levels))
    ends = {"stem": nn.Linear(8, 8), "head": nn.Linear(8, 2)}
    model = network(run, down=linears(levels), up=up, **ends)
    # of the levels, a path goes down d and up d: the innermost skip is read at level d
    paths = x**2 * (sum(x ** (2 * d + 1) for d in range(levels)) + x ** (2 * levels))
    report = capture_graph(model, X).depth()
    assert has_paths(report, paths)
    assert report.effective_depth == 3
    assert len(missed(model, X)) == 2 * levels - 1


@pytest.mark.parametrize("blocks", [2, 4])
def test_stream_that_mixes_its_first_state_in(blocks, network, linears, has_paths):
    """Before each block but the first x = lam x + mu x0."""

    def run(self, h):
        h = h0 = self.stem(h)
        for k, layer in enumerate(self.layers):
            h = self.lam[k] * h + self.mu[k] * h0
            h = h + layer(torch.relu(h))
        return self.head(h)

    scales = {name: nn.Parameter(torch.ones(blocks)) for name in ("lam", "mu")}
    ends = {"stem": nn.Linear(8, 8), "head": nn.Linear(8, 2)}
    model = network(run, layers=linears(blocks), **scales, **ends)
    block = x + x**2
    state = block
    for _ in range(blocks - 1):
        state = x * (state + 1) * block
    assert has_paths(capture_graph(model, X).depth(), x**2 * state)
    assert missed(model, X) == [f"layers.{k}" for k in range(blocks - 1)]


def test_skip_over_all_blocks(network, linears):
    """As super-resolution networks have: stem(x) + last(blocks(stem(x)))."""

    def run(self, h):
        h = h0 = self.stem(h)
        for layer in self.layers:
            h = h + layer(torch.relu(h))
        return self.head(h0 + self.last(h))

    ends = {name: nn.Linear(8, 8) for name in ("stem", "last", "head")}
    model = network(run, layers=linears(4), **ends)
    assert missed(model, X) == [f"layers.{k}" for k in range(4)]


@pytest.mark.parametrize("levels", [2, 3])
def test_unet_with_added_skips(levels, network, linears, has_paths):
    """Every level h + up(inner(down(h))), the innermost without an inner one."""

    def level(self, h, k):
        inner = torch.relu(self.down[k](h))
        return h + self.up[k](level(self, inner, k + 1) if k + 1 < levels else inner)

    ends = {"stem": nn.Linear(8, 8), "head": nn.Linear(8, 2)}
    run = network(
        lambda m, h: m.head(level(m, m.stem(h), 0)),
        down=linears(levels),
        up=linears(levels),
        **ends,
    )
    paths = x + x**3
    for _ in range(levels - 1):
        paths = x + x**3 * paths
    assert has_paths(capture_graph(run, X).depth(), x**2 * paths)
    found = missed(run, X)
    inside = {f"{name}.{k}" for name in ("up", "down") for k in range(1, levels)}
    assert set(found) == inside


@pytest.mark.parametrize("blocks", [2, 4])
def test_single_sum_within_each_block_belongs_to_the_block(blocks, network, linears):
    """As a state-space layer adds its input, scaled, to what it made of it."""

    def run(self, h):
        h = self.stem(h)
        for a, b, c in zip(self.a, self.b, self.c, strict=True):
            u = a(h)
            h = h + c(self.gain * u + torch.tanh(b(torch.relu(u))))
        return self.head(h)

    ends = {"stem": nn.Linear(8, 8), "head": nn.Linear(8, 2), "gain": nn.Parameter(torch.ones(8))}
    model = network(run, a=linears(blocks), b=linears(blocks), c=linears(blocks), **ends)
    assert missed(model, X) == []


def test_embeddings_of_tokens_into_every_block(network):
    def run(self, tokens):
        h = self.table(tokens)
        for table, layer in zip(self.tables, self.layers, strict=True):
            h = h + layer(F.layer_norm(h, (8,)))
            h = (h + table(tokens)) * 1.0
        return self.head(h)

    tables = nn.ModuleList(nn.Embedding(9, 8) for _ in range(3))
    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
    ends = {"table": nn.Embedding(9, 8), "head": nn.Linear(8, 2)}
    model = network(run, tables=tables, layers=layers, **ends)
    assert {"layers.0", "layers.1"} <= set(missed(model, torch.zeros(1, 4, dtype=torch.long)))


def residual(self, h):
    h = self.stem(h)
    for a, b in zip(self.a, self.b, strict=True):
        h = h + b(torch.relu(a(h)))
    return self.head(h)


def attention(self, h):
    q, k, v = self.a[0](h), self.a[1](h), self.a[2](h)
    return self.head(torch.softmax(q @ k.T, -1) @ v)


def squeeze(self, h):
    h = self.stem(h)
    return self.head(h * self.b[0](torch.relu(self.a[0](h.mean(0, keepdim=True)))).sigmoid())


@pytest.mark.parametrize("run", [residual, attention, squeeze])
def test_branches_parallel_layers_and_gates_are_not_by_passed(run, network, linears):
    ends = {"stem": nn.Linear(8, 8), "head": nn.Linear(8, 2)}
    model = network(run, a=linears(3), b=linears(3), **ends)
    assert missed(model, X) == []
    assert notes(model, X) == ()


_JOINED = {
    "chunk": (lambda a, b: torch.cat([a, b], -1), lambda h: h.chunk(2, -1)),
    "slices": (lambda a, b: torch.cat([a, b], -1), lambda h: (h[:, :4], h[:, 4:])),
    "unbind": (lambda a, b: torch.stack([a, b]), lambda h: h.unbind()),
    "select": (lambda a, b: torch.stack([a, b], 1), lambda h: (h[:, 0], h[:, 1])),
}


@pytest.mark.parametrize("joined", _JOINED)
@pytest.mark.parametrize("couplings", [1, 2, 5])
def test_parts_that_are_taken_out_of_a_concatenation_are_what_they_were(
    joined, couplings, network, has_paths
):
    """Additive couplings (NICE, arXiv 1410.8516): one half is changed, then the other."""
    join, split = _JOINED[joined]

    def run(self, halves):
        for layer in self.layers:
            a, b = split(halves)
            halves = join(b + layer(a), a)
        return halves

    layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(couplings))
    report = capture_graph(network(run, layers=layers), join(X[:, :4], X[:, 4:])).depth()
    a = b = untouched = Polynomial([1])
    for number in range(couplings):
        a, b = x * (b + x * a), a
        untouched = b if number else Polynomial([1])
    assert has_paths(report, a + untouched)
    assert report.effective_depth == couplings // 2


def test_layers_beside_an_input_that_goes_through_untouched_are_by_passed(network):
    def permuted(self, h):
        for layer in self.layers:
            a, b = h.chunk(2, -1)
            h = torch.cat([b + layer(a), a], -1).flip(-1).roll(1, -1)
        return h

    layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    model = network(permuted, layers=layers)
    assert capture_graph(model, X).depth().effective_depth == 0
    assert missed(model, X) == ["layers.0", "layers.1", "layers.2"]
    (note,) = notes(model, X)
    assert note.startswith("the shortest path by-passes 3 of 3 weight layers")


def test_an_input_that_is_returned_as_it_came_is_not_the_output(network):
    model = network(lambda self, h: (h, self.layer(h)), layer=nn.Linear(8, 2))
    report = capture_graph(model, X).depth()
    assert (report.outputs, report.effective_depth) == (("1",), 1)
