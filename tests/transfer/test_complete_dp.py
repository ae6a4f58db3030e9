"""Every setting of every parameter of a GPT under Complete(d)P, from the papers' tables.

Width x 4 (heads of the same size), depth x 6, batch x 8, tokens x 20, against formulas that are
written here from [CP] Table 1 and [CDP]: the forward pass with its multipliers (1/m_L on branches,
1/m_N on logits), then each multiplier m moved into its parameter: init x m, lr x m, decay / m,
eps / m.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar import Target, Tuned, plan_transfer

HEAD, LAYERS, WIDTH = 4, 2, 8
M_N, M_L, M_B, M_D = 4, 6, 8, 20
NOISE = M_B / M_D
LR, DECAY, BETAS, EPS = 3e-3, 0.1, (0.9, 0.95), 1e-8


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.q_norm, self.k_norm = nn.RMSNorm(HEAD), nn.RMSNorm(HEAD)
        self.proj = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        h = self.norm1(x)
        q, k, v = (f(h).unflatten(-1, (-1, HEAD)).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, layers, width, tied):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, width), nn.Embedding(5, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 11, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def size(layers, width, tied):
    return GPT(layers, width, tied), torch.zeros(2, 5, dtype=torch.long)


def make(tied, optimizer, steps=1000):
    moments = {} if optimizer == "shampoo" else {"betas": BETAS, "eps": EPS}
    base = Tuned(
        size(LAYERS, WIDTH, tied),
        LR,
        weight_decay=DECAY,
        **moments,
        batch_size=16,
        num_steps=steps,
        aux_lr=LR if optimizer == "muon" else None,
    )
    target = Target(
        size(M_L * LAYERS, M_N * WIDTH, tied),
        batch_size=16 * M_B,
        num_steps=steps * M_D // M_B,
    )
    laws = ("complete-p", "batch-size", "duration")
    return plan_transfer(base, target, optimizer=optimizer, law=laws)


def factors_of(name, tied):
    """lr, decay, eps and init of a parameter in the forward pass with multipliers; and m."""
    in_block, kind = "blocks." in name, name.split(".")[-2]
    ends = kind in ("proj", "down")
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 1, 1, 1 / M_L, 1, 1  # heads keep their size
    if in_block and name.endswith("weight") and "norm" not in kind:
        return 1 / M_N, M_N, 1 / (M_N * M_L), 1, 1 / M_L if ends else 1
    if in_block:
        return 1, 1, 1 / (M_N * M_L), 1, 1 / M_L if ends else 1
    if kind == "head" and not tied:
        # variance of the base: x m_N^(1/2) beside an initialization of 1 / fan_in. Its gradient
        # carries the multiplier 1 / m_N alone, which the folding takes back.
        return 1, 1, 1 / M_N, math.sqrt(M_N), 1 / M_N
    return 1, 1, 1 / M_N, 1, 1  # embeddings and the last norm


def total(entry, name):
    return math.prod(getattr(factors, name) for _, factors in entry.factors)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_every_parameter_has_the_settings_of_the_tables(tied):
    plan = make(tied, "adamw")
    assert len(plan.parameters) == 2 + 12 * 18 + 2 + (not tied)
    betas = tuple(1 - (1 - beta) * NOISE for beta in BETAS)
    for entry in plan.parameters:
        lr, decay, eps, init, m = factors_of(entry.name, tied)
        assert entry.lr == pytest.approx(LR * lr * m * NOISE**0.5), entry.name
        assert total(entry, "weight_decay") == pytest.approx(decay / m * NOISE**0.5), entry.name
        assert entry.eps == pytest.approx(EPS * eps / m * NOISE**-0.5), entry.name
        assert entry.init == pytest.approx(init * m), entry.name
        assert entry.betas == pytest.approx(betas), entry.name
    weights = [entry for entry in plan.parameters if entry.role == "hidden"]
    assert all(e.weight_decay == pytest.approx(DECAY * total(e, "weight_decay")) for e in weights)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_muon_keeps_its_matrices_rates_and_lr_times_decay_times_steps(tied):
    """[CP] over depth for updates of fixed size, (fan_out / fan_in)^(1/2) over width; [WA]."""
    plan, adamw = make(tied, "muon"), make(tied, "adamw")
    steps = M_D / M_B
    for entry, like in zip(plan.parameters, adamw.parameters, strict=True):
        if entry.optimizer == "adamw":
            assert (entry.lr, entry.betas, entry.eps) == (like.lr, like.betas, like.eps)
            continue
        *_, m = factors_of(entry.name, tied)
        # torch's own sqrt(max(1, rows / columns)) is the same at both sizes, as are the ratios
        assert entry.lr == pytest.approx(LR * m), entry.name
        share = total(entry, "lr") * total(entry, "weight_decay") * steps
        assert share == pytest.approx(1), entry.name
        assert entry.init == pytest.approx(m)
    muon = [entry.name for entry in plan.parameters if entry.optimizer == "muon"]
    assert len(muon) == 12 * 6


def spectral_factors(name, tied, *, elementwise_vectors):
    """lr, its role in decay and epsilon, init and m of [MP]: (d_out / d_in)^(1/2) for each tensor.

    Of an embedding d_in is the vocabulary, of a bias or gain 1. The readout is the layer behind the
    multiplier 1 / m_N whose variance stays, at m_N^(1/2); epsilon follows the gradient, 1 / rate,
    and 1 / m_L on branches.
    """
    *_, init, m = factors_of(name, tied)
    in_block, kind = "blocks." in name, name.split(".")[-2]
    depth = M_L if in_block else 1
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 1, 1 / depth, init, m
    if name.endswith("bias") or "norm" in kind:
        return (1, 1 / M_N / depth, init, m) if elementwise_vectors else (M_N**0.5, 0, init, m)
    lr = 1 if in_block else M_N**0.5  # all hidden weights widen on both sides
    return lr, 1 / lr / depth, init, m


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(("name", "decay_power"), [("shampoo", 2), ("soap", 1)])
def test_shampoo_and_soap_have_the_settings_of_the_spectral_rule(name, decay_power, tied):
    """[MP] over width, [CP] over depth; rates of matrices do not follow batch and duration."""
    plan = make(tied, name)
    assert any("no source says how rates of " + name in note for note in plan.notes)
    is_soap = name == "soap"
    for entry in plan.parameters:
        lr, eps, init, m = spectral_factors(entry.name, tied, elementwise_vectors=is_soap)
        is_vector = is_soap and len(entry.shape) == 1
        noise = NOISE if is_vector else 1.0  # as Adam does
        decay = NOISE**0.5 if is_vector else NOISE if is_soap else 1.0
        assert entry.lr == pytest.approx(LR * lr * m * noise**0.5), entry.name
        decays = total(entry, "weight_decay")
        assert decays == pytest.approx(decay / lr / m**decay_power), entry.name
        assert entry.init == pytest.approx(init * m), entry.name
        if is_soap:
            assert entry.eps == pytest.approx(EPS * eps / m * noise**-0.5), entry.name
            assert entry.betas == pytest.approx(tuple(1 - (1 - b) * noise for b in BETAS))
        else:
            assert entry.eps is entry.betas is None
