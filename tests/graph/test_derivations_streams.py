"""Paths derived by hand from the architecture: streams that mix, nest, fork and are gated.

A derivation is a polynomial, w a weight layer and a an addition: its terms are the paths by their
layers and additions. `state` is the polynomial of all paths from the input to the stream.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sympy import symbols
from torch import nn

from etastar.graph import capture_graph

w, a = symbols("w a")
X = torch.zeros(2, 8)
MLP = a + w**2 * a  # x + b(relu(a(x)))


def layers(count, fan_in=8, fan_out=8):
    return nn.ModuleList(nn.Linear(fan_in, fan_out) for _ in range(count))


def ends():
    return {"stem": nn.Linear(8, 8), "head": nn.Linear(8, 3)}


def mlps(count):
    make = nn.Sequential
    return nn.ModuleList(
        make(nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(count)
    )


def first_state_mixed_in(net, n):
    """Before each block but the first x = lam x + mu x0; two branches a block."""

    def run(m, x):
        x = x0 = m.stem(x)
        for k in range(n):
            x = m.lam[k] * x + m.mu[k] * x0
            x = x + m.first[k](x)
            x = x + m.second[k](x)
        return m.head(x)

    gains = {name: nn.Parameter(torch.ones(n)) for name in ("lam", "mu")}
    state = w * MLP**2  # lam x0 + mu x0 comes from one place
    for _ in range(n - 1):
        state = a * (state + w) * MLP**2
    return (
        (net(run, first=mlps(n), second=mlps(n), **gains, **ends()), X),
        {"paths": state * w, "additions": 3 * n - 1, "layers": w**2 * (1 + w**2) ** (2 * n)},
        [2 * n],
    )


def skips_between_blocks(net, n):
    """Outputs of the first n blocks are added again before the last n, the last one first."""

    def run(m, x):
        x, skips = m.stem(x), []
        for k in range(n):
            skips.append(x := x + m.down[k](x))
        for k in range(n):
            x = x + m.gains[k] * skips.pop()
            x = x + m.up[k](x)
        return m.head(x)

    down = [w * MLP ** (k + 1) for k in range(n)]
    state = down.pop()  # the first skip is the state itself
    while down:  # x + f(x) is read by x + f(x) + g skip alone: one addition of three
        state = a * ((1 + w**2) * state + down.pop())
    return (
        (net(run, down=mlps(n), up=mlps(n), gains=nn.Parameter(torch.ones(n)), **ends()), X),
        {"paths": state * MLP * w, "additions": 2 * n, "layers": w**2 * (1 + w**2) ** (2 * n)},
        [2 * n],
    )


def value_embeddings(net, n):
    """The values of every attention have a table of the tokens added."""

    def run(m, tokens):
        x = m.table(tokens)
        for k in range(n):
            y = F.layer_norm(x, (8,))
            v = m.v[k](y) + m.gains[k] * m.tables[k](tokens)
            x = x + m.o[k](F.scaled_dot_product_attention(m.q[k](y), m.k[k](y), v))
        return m.head(x)

    members = {name: layers(n) for name in "qkvo"}
    tables = nn.ModuleList(nn.Embedding(9, 8) for _ in range(n))
    state = w
    for _ in range(n):
        state = state * (a + (2 * w + w * a) * w * a) + w * a * w * a
    model = net(
        run, table=nn.Embedding(9, 8), tables=tables, gains=nn.Parameter(torch.ones(n)),
        head=nn.Linear(8, 9), **members,
    )  # fmt: skip
    return (
        (model, torch.zeros(2, 5, dtype=torch.long)),
        {"paths": state * w, "additions": 2 * n},
        [n],
    )


def hyper_connections(net, n):
    """Two copies of the stream; a layer reads their sum, each copy mixes both and the layer's."""

    def run(m, x):
        one = two = m.stem(x)
        for k in range(n):
            y = m.f[k](torch.relu(one + two))
            one, two = one + m.c[k] * two + y, two + m.d[k] * one + y
        return m.head(one + two)

    copy = a * w + a * w**2  # both copies are the stem still: their sum is none
    for _ in range(n - 1):
        copy = a * 2 * copy + a * w * a * 2 * copy  # in the end both are summed at once
    gains = {name: nn.Parameter(torch.ones(n)) for name in "cd"}
    return (
        (net(run, f=layers(n), **gains, **ends()), X),
        {"paths": copy * w, "additions": 3 * n - 2, "layers": w**2 * (1 + w) ** n},
        [n],
    )


def weighted_means_of_all_states(net, n):
    """DenseFormer: behind each block a weighted sum of the outputs of all blocks so far."""

    def run(m, x):
        x = m.stem(x)
        states = [x]
        for k in range(n):
            states.append(x + m.f[k](x))
            x = sum(g * s for g, s in zip(m.gains[k], states, strict=False))
        return m.head(x)

    states, mixed = [w], w
    for _ in range(n):
        states.append(mixed * MLP)
        mixed = a * sum(states)
    return (
        (net(run, f=mlps(n), gains=nn.Parameter(torch.ones(n, n + 1)), **ends()), X),
        {"paths": mixed * w, "additions": 2 * n, "layers": w**2 * (1 + w**2) ** n},
        [n],
    )


def reversible(net, n):
    """x1 + f(x2), x2 + g(x1): each stream feeds the other's branches."""

    def run(m, x):
        one = two = m.stem(x)
        for k in range(n):
            one = one + m.f[k](two)
            two = two + m.g[k](one)
        return m.head(torch.cat([one, two], -1))

    one = two = w
    for _ in range(n):
        one = a * one + a * w**2 * two
        two = a * two + a * w**2 * one
    model = net(run, f=mlps(n), g=mlps(n), stem=nn.Linear(8, 8), head=nn.Linear(16, 3))
    paths = (one + two) * w
    derived = {"paths": paths, "additions": 2 * n, "layers": paths.subs(a, 1) - w**2}
    return (model, X), derived, None  # past all branches there are two ways


def residual_in_residual(net, n):
    """x + c(inner(x)), inner a stream of three branches, as in super-resolution networks."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            y = x
            for j in range(3):
                y = y + m.f[3 * k + j](y)
            x = x + m.c[k](y)
        return m.head(x)

    return (
        (net(run, f=mlps(3 * n), c=layers(n), **ends()), X),
        {"paths": w * (a + MLP**3 * w * a) ** n * w, "additions": 4 * n},
        sorted([3] * n + [n]),
    )


def sums_inside_of_branches(net, n):
    """x + p(relu(a(x) + c(x))), then an adapter behind the next branch: y + up(down(y))."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            x = x + m.p[k](torch.relu(m.a[k](x) + m.c[k](x)))
            y = m.b[k](torch.relu(x))
            x = x + 1.0 * (y + m.up[k](torch.relu(m.down[k](y))))
        return m.head(x)

    first, second = a + 2 * w * a * w * a, a + w * (1 + w**2) * a * a
    rank = {"down": layers(n, 8, 2), "up": layers(n, 2, 8)}
    return (
        (net(run, **{name: layers(n) for name in "apcb"}, **rank, **ends()), X),
        {"paths": w * (first * second) ** n * w, "additions": 4 * n},
        [2 * n],
    )


def gated_residual(net, n):
    """g x + (1 - g) f(x), and in every other block x + g (f(x) - x), whose difference counts."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            gate, y = torch.sigmoid(m.gate[k](x)), m.f[k](x)
            x = x + gate * (y - x) if k % 2 else gate * x + (1 - gate) * y
        return m.head(x)

    convex, highway = a + w * a + w**2 * a, a + w * a + (1 + w**2) * a * a
    paths = w * (convex * highway) ** (n // 2) * w
    return (
        (net(run, f=mlps(n), gate=layers(n), **ends()), X),
        {"paths": paths, "additions": n + n // 2, "layers": w**2 * (1 + w + w**2) ** n},
        [n],
    )


def parallel_branches(net, n):
    """x + f(x) + g(x), bracketed one way and the other: one addition of three."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            f, g = m.f[k](x), m.g[k](x)
            x = x + (f + g) if k % 2 else (x + f) + g
        return m.head(x)

    return (
        (net(run, f=mlps(n), g=mlps(n), **ends()), X),
        {"paths": w * (a + 2 * w**2 * a) ** n * w, "additions": n},
        [n],
    )


def sums_of_what_was_stacked(net, n):
    """Stacked and summed, joined and averaged, cumulated, by foreach: additions all the same."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            y = m.f[k](x)
            x = (
                torch.stack([x, y]).sum(0),
                torch.cat([x, y]).view(2, *x.shape).mean(0),
                torch.stack([x, y]).cumsum(0)[-1],
                torch._foreach_add([x], [y])[0],
            )[k % 4]
        return m.head(x)

    return (
        (net(run, f=mlps(n), **ends()), X),
        {"paths": w * MLP**n * w, "additions": n},
        [n],
    )


DERIVATIONS = (
    first_state_mixed_in,
    skips_between_blocks,
    value_embeddings,
    hyper_connections,
    weighted_means_of_all_states,
    reversible,
    residual_in_residual,
    sums_inside_of_branches,
    gated_residual,
    parallel_branches,
    sums_of_what_was_stacked,
)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("derivation", DERIVATIONS)
def test_paths_and_streams_are_those_derived_by_hand(derivation, n, network, reads_as):
    (model, *inputs), derived, streams = derivation(network, n)
    graph = capture_graph(model, *inputs)
    report, expected = graph.depth(), reads_as(**derived)
    assert {name: getattr(report, name) for name in expected} == expected
    if streams is not None:
        found = {(i.stream, i.stream_additions) for i in graph.parameters if i.in_branch}
        assert sorted(k for _, k in found) == streams
