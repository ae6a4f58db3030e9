"""Residual streams and branches, on networks whose structure is known."""

import pytest
import torch
import torch.nn.functional as F
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


# -- streams that mix earlier states in ----------------------------------------------------------


def rms(h):
    return F.rms_norm(h, (h.shape[-1],))


def first_state(self, h):
    h = h0 = self.stem(h)
    for k in range(4):
        h = self.scale[k] * h + self.scale[k] * rms(h0)
        h = h + self.a[k](rms(h))
        h = h + self.b[k](rms(h).relu())
    return self.head(h)


def skips_between_blocks(self, h):
    h, skips = self.stem(h), []
    for k in range(4):
        h = h + self.a[k](rms(h))
        if k < 2:
            skips.append(h)
        else:
            h = h + self.scale[k] * skips.pop()
        h = h + self.b[k](rms(h).relu())
    return self.head(h)


def weighted_sum_of_all_states(self, h):
    h = self.stem(h)
    states = [h]
    for k in range(4):
        h = h + self.a[k](rms(h))
        h = h + self.b[k](rms(h).relu())
        states.append(h)
        h = sum(self.scale[j] * state for j, state in enumerate(states))
    return self.head(h)


def hyper_connections(self, h):
    states = [self.stem(h)] * 3
    for k in range(4):
        for layer in (self.a[k], self.b[k]):
            branch = layer(rms(sum(self.scale[j] * s for j, s in enumerate(states))))
            states = [
                sum(self.mix[i, j] * s for j, s in enumerate(states)) + self.scale[i] * branch
                for i in range(3)
            ]
    return self.head(sum(states))


def first_values(self, h):
    """Values of the first attention are mixed into those of the others."""
    h, first = self.stem(h), None
    for k in range(4):
        values = self.v[k](rms(h))
        first = values if first is None else first
        h = h + self.a[k](torch.softmax(h @ h.T, -1) @ (values + self.scale[k] * first))
        h = h + self.b[k](rms(h).relu())
    return self.head(h)


@pytest.mark.parametrize(
    "run",
    [
        first_state,
        skips_between_blocks,
        weighted_sum_of_all_states,
        hyper_connections,
        first_values,
    ],
)
def test_branches_are_found_where_earlier_states_are_mixed_in(run, network, linears):
    members = {"a": linears(4), "b": linears(4), "v": linears(4), "stem": nn.Linear(8, 8)}
    scales = {"scale": nn.Parameter(torch.ones(5)), "mix": nn.Parameter(torch.ones(3, 3))}
    model = network(run, **members, **scales, head=nn.Linear(8, 2))
    infos = {i.name: i for i in capture_graph(model, torch.zeros(2, 8)).parameters}
    for k in range(4):
        for place, name in enumerate("ab"):
            info = infos[f"{name}.{k}.weight"]
            assert (info.stream, info.stream_additions, info.branch) == (0, 8, 2 * k + place)
            assert info.branch_last
            assert info.branch_scale
            assert info.branches == ((0, 2 * k + place),)
    assert not infos["head.weight"].in_branch
    assert not infos["stem.weight"].in_branch


# -- sums within a branch ------------------------------------------------------------------------


def two_ways(m, k, h, t):
    return m.b[k](torch.relu(m.a[k](h) + m.c[k](h)))


def adapter(m, k, h, t):
    """A layer and its low-rank adapter within the branch."""
    return m.b[k](torch.relu(m.a[k](h) + m.d[k](m.c[k](h))))


def adapter_at_the_end(m, k, h, t):
    return torch.relu(m.b[k](h) + m.a[k](m.c[k](h)))


def condition(m, k, h, t):
    return m.b[k](torch.relu(m.a[k](h) + m.c[k](t)))


def attention_with_terms(m, k, h, t):
    """Scores from content and from relative positions, each with a table of its own."""
    q, key = m.a[k](h), m.c[k](h)
    scores = q @ key.T + q @ m.d[k].weight[:, :2] + (key @ m.d[k].weight[:, :2]).T
    return m.b[k](torch.softmax(scores, -1) @ h)


INNER = [two_ways, adapter, adapter_at_the_end, condition, attention_with_terms]


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("blocks", [1, 4])
def test_sums_within_a_branch_are_no_additions_of_the_stream(inner, blocks, network, linears):
    def run(self, h, t):
        h, t = self.stem(h), torch.relu(self.time(t))
        for k in range(blocks):
            h = h + inner(self, k, h, t)
        return self.head(h)

    ends = {name: nn.Linear(8, 8) for name in ("stem", "time", "head")}
    layers = {name: linears(blocks) for name in "abcd"}
    model = network(run, **ends, **layers)
    infos = {
        i.name: i for i in capture_graph(model, torch.zeros(2, 8), torch.zeros(2, 8)).parameters
    }
    for k in range(blocks):
        for name in "abc":
            info = infos[f"{name}.{k}.weight"]
            assert (info.stream, info.stream_additions, info.branch) == (0, blocks, k)
        assert infos[f"b.{k}.weight"].branch_last
        assert infos[f"b.{k}.weight"].branch_scale
    assert infos["time.weight"].in_branch == (inner is condition and blocks == 1)


def test_residual_within_residual_nests(network, linears):
    """Groups of two blocks with a skip of their own, and a skip over all."""

    def run(self, h):
        h = start = self.stem(h)
        for group in range(3):
            inner = h
            for k in (2 * group, 2 * group + 1):
                inner = inner + self.b[k](torch.relu(self.a[k](inner)))
            h = h + self.c[group](inner)
        return self.head(start + self.last(h))

    ends = {name: nn.Linear(8, 8) for name in ("stem", "last", "head")}
    model = network(run, a=linears(6), b=linears(6), c=linears(3), **ends)
    infos = {i.name: i for i in capture_graph(model, torch.zeros(2, 8)).parameters}
    for k in range(6):
        info = infos[f"b.{k}.weight"]
        assert (info.stream_additions, info.branch, len(info.branches)) == (2, k % 2, 3)
        assert info.branches[0] == (info.stream, info.branch)
        assert info.branches[1:] == infos[f"c.{k // 2}.weight"].branches
    assert {infos[f"c.{k}.weight"].stream_additions for k in range(3)} == {3}
    assert len({infos[f"c.{k}.weight"].stream for k in range(3)}) == 1
    assert infos["last.weight"].stream_additions == 1
    assert len({infos[f"a.{k}.weight"].stream for k in range(6)}) == 3


def test_deberta_has_two_additions_a_block():
    from transformers import DebertaConfig, DebertaModel

    config = DebertaConfig(
        hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16,
        vocab_size=9, max_position_embeddings=16, relative_attention=True,
        pos_att_type=["c2p", "p2c"],
    )  # fmt: skip
    graph = capture_graph(DebertaModel(config), input_ids=torch.zeros(1, 6, dtype=torch.long))
    assert {info.stream_additions for info in graph.parameters if info.in_branch} == {6}
    assert graph.depth().effective_depth == 7


# -- gated residuals -----------------------------------------------------------------------------
