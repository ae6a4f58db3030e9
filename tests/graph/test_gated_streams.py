"""Gated residuals, constant factors, shared gains, streams that read a concatenation."""

import pytest
import torch
from torch import nn

from etastar.graph import capture_graph


def convex(m, k, h):
    gate = torch.sigmoid(m.g[k](h))
    return gate * h + (1 - gate) * m.b[k](torch.relu(m.a[k](h)))


def highway(m, k, h):
    return h + torch.sigmoid(m.g[k](h)) * (m.b[k](torch.relu(m.a[k](h))) - h)


def plain_gate(m, k, h):
    gate = m.g[k](h)
    return (1 - gate) * h + gate * m.b[k](torch.relu(m.a[k](h)))


def lerp(m, k, h):
    return torch.lerp(h, m.b[k](torch.relu(m.a[k](h))), torch.sigmoid(m.g[k](h)))


@pytest.mark.parametrize("update", [convex, highway, plain_gate, lerp])
def test_gated_residual_is_a_stream_that_carries_no_multiplier(update, network, linears):
    def run(self, h):
        h = self.stem(h)
        for k in range(4):
            h = update(self, k, h)
        return self.head(h)

    layers = {name: linears(4) for name in "abg"}
    model = network(run, stem=nn.Linear(8, 8), **layers, head=nn.Linear(8, 2))
    graph = capture_graph(model, torch.zeros(2, 8))
    infos = {i.name: i for i in graph.parameters}
    for k in range(4):
        for name in "abg":
            info = infos[f"{name}.{k}.weight"]
            assert (info.stream, info.stream_additions, info.branch) == (0, 4, k)
            assert not info.branch_scale
    (note,) = graph.depth().notes
    assert note.startswith("gated residual: 4 of ")


def test_constant_factors_are_no_gate(network, linears):
    def run(self, h):
        h = self.stem(h)
        for k in range(4):
            h = 0.9 * h + 0.1 * self.a[k](torch.relu(h))
            h = h + 0.5 * (self.b[k](torch.relu(h)) - h)
        return self.head(h)

    model = network(run, stem=nn.Linear(8, 8), a=linears(4), b=linears(4), head=nn.Linear(8, 2))
    graph = capture_graph(model, torch.zeros(2, 8))
    inside = [info for info in graph.parameters if info.name[0] in "ab"]
    assert {(info.stream, info.stream_additions) for info in inside} == {(0, 8)}
    assert all(info.branch_scale for info in inside)
    assert not any(note.startswith("gated") for note in graph.depth().notes)


def test_gain_of_several_branches_in_one_tensor_is_no_place_for_a_multiplier(network, linears):
    def run(self, h):
        h = self.stem(h)
        for k in range(3):
            h = h + self.gains[k] * self.a[k](torch.relu(h))
        return self.head(h)

    model = network(run, stem=nn.Linear(8, 8), a=linears(3), head=nn.Linear(8, 2))
    model.gains = nn.Parameter(torch.ones(3, 8))
    infos = {i.name: i for i in capture_graph(model, torch.zeros(2, 8)).parameters}
    assert all(infos[f"a.{k}.weight"].branch_scale for k in range(3))
    assert not infos["gains"].branch_scale


# -- streams of concatenations -------------------------------------------------------------------


def test_blocks_that_read_a_concatenation_go_on(network, linears):
    """As in a diffusion U-Net: shortcut(cat) + block(cat), then a block of one width."""

    def run(self, h):
        skips = [h := self.stem(h)]
        for k in range(3):
            skips.append(h := h + self.down[k](torch.relu(h)))
        for k in range(3):
            both = torch.cat([h, skips.pop()], -1)
            h = self.shortcut[k](both) + self.second[k](torch.relu(self.first[k](both)))
            h = h + self.up[k](torch.relu(h))
        return self.head(h)

    wide = {n: nn.ModuleList(nn.Linear(16, 8) for _ in range(3)) for n in ("shortcut", "first")}
    layers = {name: linears(3) for name in ("down", "up", "second")}
    model = network(run, stem=nn.Linear(8, 8), **wide, **layers, head=nn.Linear(8, 2))
    infos = {i.name: i for i in capture_graph(model, torch.zeros(2, 8)).parameters}
    for k in range(3):
        for name in ("down", "first", "second", "up"):
            info = infos[f"{name}.{k}.weight"]
            assert (info.stream, info.stream_additions) == (0, 9), (name, k)
        assert infos[f"second.{k}.weight"].branch_last
        assert infos[f"up.{k}.weight"].branch_last
        assert not infos[f"shortcut.{k}.weight"].in_branch


def test_stream_of_two_inputs_side_by_side(network, linears):
    """Tokens of text and of an image, put together."""

    def run(self, text, image):
        h = torch.cat([self.text(text), self.image(image)])
        for a, b in zip(self.a, self.b, strict=True):
            h = h + b(torch.relu(a(h)))
        return self.head(h)

    ends = {name: nn.Linear(8, 8) for name in ("text", "image", "head")}
    graph = capture_graph(
        network(run, **ends, a=linears(3), b=linears(3)), torch.zeros(2, 8), torch.zeros(2, 8)
    )
    infos = {info.name: info for info in graph.parameters}
    for k in range(3):
        for place, name in enumerate("ab"):
            info = infos[f"{name}.{k}.weight"]
            assert (info.stream, info.stream_additions, info.branch) == (0, 3, k)
            assert info.branch_position == place
    assert not any(infos[f"{name}.weight"].in_branch for name in ends)
    assert graph.depth().notes == ()


def test_a_gate_over_summed_embeddings_is_one_in_the_first_block_too(network, linears):
    def run(self, tokens, positions):
        h = self.tokens(tokens) + self.positions(positions)
        for k in range(3):
            h = convex(self, k, h)
        return self.head(h)

    tables = {name: nn.Embedding(4, 8) for name in ("tokens", "positions")}
    layers = {name: linears(3) for name in "abg"}
    ids = torch.zeros(2, 3, dtype=torch.long)
    graph = capture_graph(network(run, **tables, **layers, head=nn.Linear(8, 2)), ids, ids)
    infos = {info.name: info for info in graph.parameters}
    for k in range(3):
        last = infos[f"b.{k}.weight"]
        assert (last.stream_additions, last.branch, last.branch_last) == (3, k, True)
        assert not last.branch_scale
    assert not any(infos[f"{name}.weight"].in_branch for name in tables)
