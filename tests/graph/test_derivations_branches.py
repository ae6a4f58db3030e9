"""Paths derived by hand from the architecture: gates, conditions, queries, joins, shared weights.

A derivation is a polynomial, w a weight layer and a an addition: its terms are the paths by their
layers and additions.
"""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from sympy import symbols
from torch import nn

from etastar.graph import capture_graph

w, a = symbols("w a")
X = torch.zeros(2, 8)
TOKENS = torch.zeros(2, 5, 8)
IMAGE = torch.zeros(1, 8, 16, 16)
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


def squeezed_and_excited(net, n):
    """Two convolutions, whose output two layers on its mean scale."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            y = m.second[k](torch.relu(m.first[k](x)))
            s = m.expand[k](torch.relu(m.reduce[k](y.mean((2, 3), keepdim=True))))
            x = torch.relu(x + y * torch.sigmoid(s))
        return m.head(x.mean((2, 3)))

    convolutions = {
        name: nn.ModuleList(nn.Conv2d(8, 8, size, padding=size // 2) for _ in range(n))
        for name, size in (("first", 3), ("second", 3), ("reduce", 1), ("expand", 1))
    }
    model = net(run, stem=nn.Conv2d(8, 8, 3), head=nn.Linear(8, 3), **convolutions)
    branch = w**2 * (1 + w**2) * a
    return (model, IMAGE), {"paths": w * (a + branch) ** n * w, "additions": n}, [n]


def routed_experts(net, n):
    """Three experts of two layers, weighted by a router: their sum is part of the addition."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            p = m.router[k](x).softmax(-1)
            made = [p[:, e, None] * m.experts[3 * k + e](x) for e in range(3)]
            x = x + (torch.stack(made).sum(0) if k % 2 else made[0] + made[1] + made[2])
        return m.head(x)

    return (
        (net(run, experts=mlps(3 * n), router=layers(n, 8, 3), **ends()), X),
        {"paths": w * (a + (w + 3 * w**2) * a) ** n * w, "additions": n},
        [n],
    )


def modulated_by_a_condition(net, n):
    """adaLN of diffusion Transformers: the condition is no data, what it makes is on no path."""

    def run(m, x, c):
        x, c = m.stem(x), F.silu(m.condition(c))
        for k in range(n):
            shift, scale, gate = m.modulation[k](c)[:, None].chunk(3, -1)
            y = F.layer_norm(x, (8,)) * (1 + scale) + shift
            x = x + gate * m.attention[k](y, y, y, need_weights=False)[0]
            x = x + m.mlp[k](x)
        return m.head(x)

    attention = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(n))
    members = {"attention": attention, "mlp": mlps(n), "modulation": layers(n, 8, 24)}
    return (
        (net(run, condition=nn.Linear(4, 8), **members, **ends()), TOKENS, torch.zeros(2, 4)),
        {"paths": w * MLP ** (2 * n) * w, "additions": 2 * n},
        [2 * n],
    )


def diffusion_unet(net, n):
    """Residual blocks with a time embedding added inside, joined over the levels."""

    def block(m, name, k, x, t):
        y = getattr(m, f"{name}1")[k](torch.relu(x))
        y = y + getattr(m, f"{name}t")[k](t)[:, :, None, None]
        return getattr(m, f"{name}2")[k](torch.relu(y))

    def run(m, x, t):
        x, t, skips = m.stem(x), torch.relu(m.time(t)), []
        for k in range(n):
            skips.append(x := x + block(m, "d", k, x, t))
            x = m.down[k](x)
        x = x + block(m, "m", 0, x, t)
        for k in range(n):
            both = torch.cat([F.interpolate(m.up[k](x), scale_factor=2.0), skips.pop()], 1)
            x = m.shortcut[k](both) + block(m, "u", k, both, t)
        return m.head(x)

    def convolutions(count, wide=8, size=3, stride=1):
        return nn.ModuleList(nn.Conv2d(wide, 8, size, stride, size // 2) for _ in range(count))

    blocks = {f"{name}1": convolutions(c) for name, c in (("d", n), ("m", 1))}
    blocks |= {f"{name}2": convolutions(c) for name, c in (("d", n), ("m", 1), ("u", n))}
    blocks |= {f"{name}t": layers(c) for name, c in (("d", n), ("m", 1), ("u", n))}
    blocks |= {"u1": convolutions(n, 16), "shortcut": convolutions(n, 16, 1), "up": convolutions(n)}
    model = net(
        run, stem=nn.Conv2d(8, 8, 3, padding=1), time=nn.Linear(4, 8), head=nn.Conv2d(8, 3, 1),
        down=convolutions(n, stride=2), **blocks,
    )  # fmt: skip
    skips, state = [], w
    for _ in range(n):
        skips.append(state := state * MLP)
        state = state * w
    state = state * MLP
    for _ in range(n):
        state = (state * w + skips.pop()) * (w * a + w**2 * a)
    return (
        (model, IMAGE, torch.zeros(1, 4)),
        {"paths": state * w, "additions": 2 * n + 1},
        [1] * (2 * n + 1),
    )


def learned_queries(net, n):
    """Latents that no data has made read the input in every block, then an MLP: Perceiver, DETR.

    The first reading adds to a table, which is no operand; queries of the first latents are on no
    path.
    """

    def run(m, x):
        x, z = m.stem(x), m.latents.expand(2, 3, 8)
        for k in range(n):
            read = F.scaled_dot_product_attention(m.q[k](z), m.k[k](x), m.v[k](x))
            z = z + m.o[k](read)
            z = z + m.mlp[k](z)
        return m.head(z)

    members = {name: layers(n) for name in "qkvo"}
    latents = nn.Parameter(torch.zeros(3, 8))
    state = 2 * w * w * w * MLP
    for _ in range(n - 1):
        state = (state * (a + w * w * a) + w * 2 * w * w * a) * MLP
    model = net(run, latents=latents, mlp=mlps(n), **members, **ends())
    return (model, TOKENS), {"paths": state * w, "additions": 2 * n - 1}, [2 * n - 1]


def inception_blocks(net, n):
    """Concatenations of 1x1, of two layers, and of pooling and 1x1."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            pooled = F.max_pool2d(x, 3, 1, 1)
            parts = (m.one[k](x), m.three[k](m.two[k](x)), m.four[k](pooled))
            x = torch.relu(torch.cat(parts, 1))
        return m.head(x.mean((2, 3)))

    members = {
        "one": nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(n)),
        "two": nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(n)),
        "three": nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(n)),
        "four": nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(n)),
    }
    model = net(run, stem=nn.Conv2d(8, 8, 3), head=nn.Linear(8, 3), **members)
    return (model, IMAGE), {"paths": w * (2 * w + w**2) ** n * w, "additions": 0}, []


def weights_in_one_tensor(net, n):
    """All layers' weights are slices of one tensor, their gains of another."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            x = x + m.gains[k] * torch.relu(F.linear(x, m.weights[k]))
        return m.head(x)

    members = {
        "weights": nn.Parameter(torch.ones(n, 8, 8)), "gains": nn.Parameter(torch.ones(n, 8))
    }  # fmt: skip
    return (
        (net(run, **members, **ends()), X),
        {"paths": w * (a + w * a) ** n * w, "additions": n},
        [n],
    )


def masked_by_where(net, n):
    """What a mask chooses from is joined, not added; a product with zero is an edge like any."""

    def run(m, x, mask):
        x = m.stem(x)
        for k in range(n):
            x = torch.where(mask, m.f[k](x), x * 0)
        return m.head(x)

    mask = torch.zeros(2, 8, dtype=torch.bool)
    model = net(run, f=mlps(n), **ends())
    return (model, X, mask), {"paths": w * (1 + w**2) ** n * w, "additions": 0}, []


def transposed_with_added_skips(net, n):
    """Down by strides, up by transposed convolutions, skips added: n levels, nested."""

    def run(m, x):
        x, skips = m.stem(x), []
        for k in range(n):
            skips.append(x)
            x = torch.relu(m.down[k](x))
        for k in range(n):
            x = skips.pop() + torch.relu(m.up[k](x))
        return m.head(x)

    members = {
        "down": nn.ModuleList(nn.Conv2d(8, 8, 4, 2, 1) for _ in range(n)),
        "up": nn.ModuleList(nn.ConvTranspose2d(8, 8, 4, 2, 1) for _ in range(n)),
    }
    ways = 1
    for _ in range(n):
        ways = a + w * ways * w * a
    model = net(run, stem=nn.Conv2d(8, 8, 1), head=nn.Conv2d(8, 3, 1), **members)
    return (model, IMAGE), {"paths": w * ways * w, "additions": n}, [1] * n


def selective_scan(net, n):
    """A state space in Python: u, gate from one layer; step and mixing from u; a loop over time."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            u, gate = m.inward[k](F.layer_norm(x, (8,))).chunk(2, -1)
            step, mixed = F.softplus(m.step[k](u)), m.mixed[k](u)
            state, made = torch.zeros(2, 8), []
            for t in range(x.shape[1]):
                state = torch.exp(step[:, t] * m.time[k]) * state + step[:, t] * u[:, t]
                made.append(state * mixed[:, t])
            y = torch.stack(made, 1) + m.past[k] * u
            x = x + m.outward[k](y * F.silu(gate))
        return m.head(x)

    members = {"inward": layers(n, 8, 16), **{s: layers(n) for s in ("step", "mixed", "outward")}}
    rates = {name: nn.Parameter(torch.ones(n, 8)) for name in ("time", "past")}
    inside = w * ((1 + 2 * w) * a + 1) * w  # scan with what passes it, and the gate
    alone = w**2 * (1 + w**2 * (1 + 2 * w)) ** n
    return (
        (net(run, **members, **rates, **ends()), TOKENS),
        {"paths": w * (a + inside * a) ** n * w, "additions": 2 * n, "layers": alone},
        [1] * n + [n],  # what passes the scan, and the stream
    )


def blocks_left_out_by_chance(net, n):
    """Layerdrop: in training each block is left out with probability 1/2."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            if not (m.training and random.random() < 0.5):
                x = x + m.f[k](x)
        return m.head(x)

    model = net(run, f=mlps(n), **ends()).train()
    return (model, X), {"paths": w * MLP**n * w, "additions": n}, [n]


def one_block_applied_again(net, n):
    """A block whose weights all rounds share: the paths of n blocks."""

    def run(m, x):
        x = m.stem(x)
        for _ in range(n):
            x = F.layer_norm(x + m.f[0](x), (8,))
        return m.head(x)

    model = net(run, f=mlps(1), **ends())
    return (model, X), {"paths": w * MLP**n * w, "additions": n}, [n]


def mixed_by_fourier(net, n):
    """x + FFT(x), then an MLP: a sum with what only mixes counts, and has one way."""

    def run(m, x):
        x = m.stem(x)
        for k in range(n):
            x = F.layer_norm(x + torch.fft.fft2(x).real, (8,))
            x = F.layer_norm(x + m.f[k](x), (8,))
        return m.head(x)

    model = net(run, f=mlps(n), **ends())
    return (model, TOKENS), {"paths": w * (a * MLP) ** n * w, "additions": 2 * n}, [2 * n]


def two_inputs_in_one_sequence(net, n):
    """Tokens and patches, each with a layer of its own, joined over positions."""

    def run(m, text, image):
        x = torch.cat([m.stem(text), m.patches(image)], 1)
        for k in range(n):
            x = x + m.f[k](x)
        return m.head(x)

    model = net(run, f=mlps(n), patches=nn.Linear(6, 8), **ends())
    inputs = (TOKENS, torch.zeros(2, 4, 6))
    return (model, *inputs), {"paths": 2 * w * MLP**n * w, "additions": n}, [n]


DERIVATIONS = (
    squeezed_and_excited,
    routed_experts,
    modulated_by_a_condition,
    diffusion_unet,
    learned_queries,
    inception_blocks,
    weights_in_one_tensor,
    masked_by_where,
    transposed_with_added_skips,
    selective_scan,
    blocks_left_out_by_chance,
    one_block_applied_again,
    mixed_by_fourier,
    two_inputs_in_one_sequence,
)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("derivation", DERIVATIONS)
def test_paths_and_streams_are_those_derived_by_hand(derivation, n, network, reads_as):
    (model, *inputs), derived, streams = derivation(network, n)
    graph = capture_graph(model, *inputs)
    report, expected = graph.depth(), reads_as(**derived)
    assert {name: getattr(report, name) for name in expected} == expected
    assert bool(report.recurrent) == (derivation is one_block_applied_again)
    assert bool(report.stacked) == (derivation is weights_in_one_tensor)
    found = {(i.stream, i.stream_additions) for i in graph.parameters if i.in_branch}
    assert sorted(k for _, k in found) == streams


MOVES = {
    "rolled": lambda y: torch.roll(y, (2, 2), (2, 3)),
    "flipped": lambda y: y.flip(3),
    "padded by reflection and cropped": lambda y: F.pad(y, (1, 1, 1, 1), "reflect")[
        ..., 1:-1, 1:-1
    ],
    "shuffled": lambda y: F.pixel_unshuffle(F.pixel_shuffle(y, 2), 2),
    "enlarged and pooled": lambda y: F.avg_pool2d(F.interpolate(y, scale_factor=2.0), 2),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_factor_on_the_last_layer_passes_what_moves_its_values(name, network):
    """As windows that are shifted back: W m moved is the move of W, times m."""

    def run(m, x):
        for layer in m.layers:
            x = x + MOVES[name](layer(torch.relu(x)))
        return m.head(x)

    layers = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
    model = network(run, layers=layers, head=nn.Conv2d(8, 3, 1))
    inside = [i for i in capture_graph(model, IMAGE).parameters if i.in_branch]
    assert len(inside) == 4
    assert all(info.branch_scale for info in inside)
