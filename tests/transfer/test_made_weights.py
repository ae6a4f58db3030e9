"""Weights that the network makes of their parameters: a factor reaches what is made, or is none."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

from etastar.errors import LawError
from etastar.graph.capture import capture_graph
from etastar.transfer import Tuned, plan_transfer

X = torch.randn(6, 8)


class Standardized(nn.Linear):
    def forward(self, x):
        centred = self.weight - self.weight.mean(1, keepdim=True)
        return F.linear(x, centred / centred.norm(dim=1, keepdim=True), self.bias)


class Masked(nn.Linear):
    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.register_buffer("mask", torch.ones(n_out, n_in).tril())

    def forward(self, x):
        return F.linear(x, self.weight * self.mask, self.bias)


class Ternary(nn.Linear):
    """Quantized with gradients passed straight through."""

    def forward(self, x):
        size = self.weight.abs().mean()
        made = (self.weight / size).round().clamp(-1, 1) * size
        return F.linear(x, self.weight + (made - self.weight).detach(), self.bias)


class Cosine(nn.Linear):
    def forward(self, x):
        return F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1), self.bias)


class Joined(nn.Linear):
    """Rows of two parameters in one weight, as for tokens that were added."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, bias=False)
        self.added = nn.Parameter(torch.randn(2, n_in) * n_in**-0.5)

    def forward(self, x):
        return F.linear(x, torch.cat([self.weight, self.added]))


def normalized(n_in, n_out, by=parametrizations.weight_norm):
    return by(nn.Linear(n_in, n_out))


def one_gain(n_in, n_out):
    return parametrizations.weight_norm(nn.Linear(n_in, n_out), dim=None)


MADE = {
    "spectral norm": lambda *n: normalized(*n, parametrizations.spectral_norm),
    "orthogonal": lambda *n: normalized(*n, parametrizations.orthogonal),
    "standardized": Standardized,
    "masked": Masked,
    "pruned": lambda *n: prune.l1_unstructured(nn.Linear(*n), "weight", 0.5),
    "ternary": Ternary,
}


class Factors(nn.Module):
    """A weight that is a product of two matrices, beside one of its own if `full`."""

    def __init__(self, n_in, n_out, rank=8, *, full=False):
        super().__init__()
        self.up = nn.Parameter(torch.randn(n_out, rank) * rank**-0.5)
        self.down = nn.Parameter(torch.randn(rank, n_in) * n_in**-0.5)
        self.full = nn.Parameter(torch.randn(n_out, n_in) * n_in**-0.5) if full else None

    def forward(self, x):
        made = self.up @ self.down
        return F.linear(x, made if self.full is None else self.full + made)


class Halves(nn.Module):
    """Two halves of a weight's rows, or of its columns."""

    def __init__(self, n_in, n_out, dim):
        super().__init__()
        shape = (n_out // 2, n_in) if dim == 0 else (n_out, n_in // 2)
        self.parts = nn.ParameterList(torch.randn(shape) * n_in**-0.5 for _ in range(2))
        self.dim = dim

    def forward(self, x):
        return F.linear(x, torch.cat([*self.parts], self.dim))


class Stream(nn.Module):
    def __init__(self, depth, last, *, width=16, end=nn.Identity):
        super().__init__()
        self.first = nn.Linear(8, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh(), last(width, width), end()
            )
            for _ in range(depth)
        )
        self.readout = nn.Linear(width, 3)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.readout(x)


def plan_over_depth(make, law, **options):
    networks = [(Stream(depth, make, **options).eval(), X) for depth in (3, 12)]
    plan = plan_transfer(Tuned(networks[0], 0.01), networks[1], optimizer="adamw", law=law)
    return plan, networks[1][0]


def branch_ratio(plan, model):
    """What `rescale_` makes of a branch's output."""
    stream = torch.randn(5, 16)
    before = model.blocks[2](stream)
    plan.rescale_(model)
    return model.blocks[2](stream) / before


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_branch_whose_last_weight_takes_no_factor_carries_none_on_its_bias(make):
    with pytest.raises(LawError, match=r"12 of 12 residual branches cannot carry a multiplier"):
        plan_over_depth(make, "complete-p")
    plan, model = plan_over_depth(make, "auto")
    assert {entry.init for entry in plan.parameters} == {1.0}
    assert torch.equal(branch_ratio(plan, model), torch.ones(5, 16))


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_an_affine_norm_behind_it_carries_the_multiplier(make):
    found = branch_ratio(*plan_over_depth(make, "complete-p", end=lambda: nn.LayerNorm(16)))
    torch.testing.assert_close(found, torch.full((5, 16), 0.25))


@pytest.mark.parametrize("by", [parametrizations.weight_norm, weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_gain_and_direction_carry_it_together(by):
    found = branch_ratio(*plan_over_depth(lambda *n: normalized(*n, by), "complete-p"))
    torch.testing.assert_close(found, torch.full((5, 16), 0.25))


@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"full": True}])
def test_factors_of_a_product_carry_none_as_it_would_count_twice(options):
    def make(*sizes):
        return Factors(*sizes, **options)

    with pytest.raises(LawError, match="cannot carry a multiplier"):
        plan_over_depth(make, "complete-p")
    found = branch_ratio(*plan_over_depth(make, "auto"))
    torch.testing.assert_close(found, torch.ones(5, 16))


class Scaled(nn.Linear):
    """Rows, or the whole weight, times a learned scale, as it is or squashed."""

    def __init__(self, n_in, n_out, size=None, squash=torch.sigmoid):
        super().__init__(n_in, n_out, bias=False)
        self.scale = nn.Parameter(torch.randn((n_out, 1) if size is None else size))
        self.squash = squash

    def forward(self, x):
        return x @ (self.squash(self.scale) * self.weight).T


SCALED = {
    "rows": Scaled,
    "plain rows": lambda *n: Scaled(*n, squash=nn.Identity()),
    "one": lambda *n: Scaled(*n, (1,)),
    "number": lambda *n: Scaled(*n, ()),
    "every": lambda *n: Scaled(*n, n[::-1]),
}


@pytest.mark.parametrize("make", SCALED.values(), ids=SCALED)
def test_a_weight_beside_a_learned_scale_carries_it_alone(make):
    found = branch_ratio(*plan_over_depth(make, "complete-p"))
    torch.testing.assert_close(found, torch.full((5, 16), 0.25))
    if make is not SCALED["every"]:
        _, before, after = over_width(make, "adamw")
        torch.testing.assert_close(after, before / 2)


@pytest.mark.parametrize("make", SCALED.values(), ids=SCALED)
def test_a_learned_scale_is_captured_on_fake_tensors(make):
    graph = capture_graph(nn.Sequential(make(4, 8), make(8, 2)), torch.zeros(1, 4))
    assert (graph.capture, graph.capture_note) == ("fake", None)


@pytest.mark.parametrize("dim", [0, 1])
def test_parts_side_by_side_carry_it_once(dim):
    found = branch_ratio(*plan_over_depth(lambda *n: Halves(*n, dim), "complete-p"))
    torch.testing.assert_close(found, torch.full((5, 16), 0.25))


def over_width(make, optimizer):
    def network(width):
        layers = nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        return nn.Sequential(*layers, make(width, 3)).eval(), X

    target = network(64)
    plan = plan_transfer(Tuned(network(16), 0.01), target, optimizer=optimizer, law="constant")
    before = target[0](X)
    plan.rescale_(target[0])
    return plan, before, target[0](X)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adafactor"])
@pytest.mark.parametrize(
    "make", [*MADE.values(), Cosine, one_gain], ids=[*MADE, "cosine", "one gain for all rows"]
)
def test_a_readout_that_takes_no_factor_has_the_rate_of_a_hidden_weight(make, optimizer):
    plan, before, after = over_width(make, optimizer)
    assert torch.equal(before, after)
    assert {entry.init for entry in plan.parameters} == {1.0}
    (readout,) = [entry for entry in plan.parameters if entry.role == "output"]
    expected = {"sgd": 1 / 4, "adamw": 1 / 4, "adafactor": 1 / 2}  # fan-out of the hidden one: 1
    assert readout.lr_multiplier == pytest.approx(expected[optimizer])
    assert f"no factor on {readout.name} is sure" in " ".join(plan.notes)


@pytest.mark.parametrize("by", [parametrizations.weight_norm, weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("rows", [3, 1])
@pytest.mark.parametrize(("optimizer", "cls"), [("sgd", "SGD"), ("adamw", "AdamW")])
def test_gain_and_direction_of_a_readout_carry_it_together(by, rows, optimizer, cls):
    """With the same change of the output at any width, as with a plain readout."""
    targets, lr = torch.randn(6, rows), {"sgd": 0.1, "adamw": 1e-3}[optimizer]

    def network(width, make):
        layers = nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        return nn.Sequential(*layers, make(nn.Linear(width, rows, bias=False)))

    def change(width, make):
        every = []
        for seed in range(3):
            torch.manual_seed(seed)
            base, model = network(64, make), network(width, make)
            tuned = Tuned((base, X), lr)
            plan = plan_transfer(tuned, (model, X), optimizer=optimizer, law="constant")
            assert "no factor" not in " ".join(plan.notes)
            plan.rescale_(model)
            stepping = getattr(torch.optim, cls)(plan.param_groups(model))
            before = model(X).detach()
            for _ in range(4):
                stepping.zero_grad()
                F.mse_loss(model(X), targets).backward()
                stepping.step()
            every.append((model(X).detach() - before).norm())
        return float(sum(every))

    plain = [change(width, lambda readout: readout) for width in (64, 1024)]
    assert [change(width, by) for width in (64, 1024)] == pytest.approx(plain, rel=0.05)


def test_a_readout_of_joined_rows_takes_its_factor():
    plan, before, after = over_width(Joined, "adamw")
    torch.testing.assert_close(after, before / 2)
    assert [entry.init for entry in plan.parameters if entry.role == "output"] == [0.5, 0.5]
    assert "no factor" not in " ".join(plan.notes)
