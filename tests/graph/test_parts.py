"""What is taken out of a concatenation is that part, also behind what works on each by itself."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import etastar


class TwoWays(nn.Module):
    """A short way of one layer beside a long one of three, joined, changed and taken out again."""

    def __init__(self, between, taken, dim=1):
        super().__init__()
        self.short = nn.Linear(8, 8)
        self.long = nn.Sequential(*(nn.Linear(8, 8) for _ in range(3)))
        self.between, self.taken, self.dim = between, taken, dim
        self.table, self.head = nn.Parameter(torch.zeros(5, 8)), nn.Linear(8, 4)

    def forward(self, x):
        joined = torch.cat([self.long(x)[:, :2], self.short(x)], self.dim)
        return self.head(self.taken(self.between(self, joined)))


def _depth(between, taken, dim=1):
    model = TwoWays(between, taken, dim)
    return etastar.effective_depth(model, torch.zeros(2, 3, 8)).effective_depth


def _rms(_, x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


BETWEEN = {
    "nothing": lambda _, x: x,
    "layer norm": lambda _, x: F.layer_norm(x, (8,)),
    "rms norm": lambda _, x: F.rms_norm(x, (8,)),
    "by hand": _rms,
    "unit length": lambda _, x: F.normalize(x, dim=-1),
    "positions": lambda m, x: F.dropout(x + m.table, 0.1),
    "in place": lambda _, x: F.layer_norm(x, (8,)).mul_(2).relu_(),
    "several": lambda m, x: F.gelu(F.layer_norm(x + m.table, (8,))),
    "turned": lambda _, x: F.layer_norm(x, (8,)).transpose(1, 2).transpose(1, 2),
    "in double": lambda _, x: F.layer_norm(x, (8,)).double().float(),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_a_part_that_is_taken_out_depends_on_that_part_alone(between):
    assert _depth(BETWEEN[between], lambda x: x[:, 0]) == 4
    assert _depth(BETWEEN[between], lambda x: x[:, 1:2]) == 4
    assert _depth(BETWEEN[between], lambda x: x[:, 2:]) == 2
    assert _depth(BETWEEN[between], lambda x: x.split([2, 3], 1)[0]) == 4
    assert _depth(BETWEEN[between], lambda x: x.unbind(1)[1]) == 4


@pytest.mark.parametrize("between", BETWEEN)
def test_what_reaches_into_both_parts_depends_on_both(between):
    for taken in (lambda x: x[:, 1:4], lambda x: x[:, ::2], lambda x: x.mean(1), lambda x: x):
        assert _depth(BETWEEN[between], taken) == 2


@pytest.mark.parametrize(
    "between",
    [
        lambda _, x: x.softmax(1),
        lambda _, x: F.layer_norm(x, (5, 8)),
        lambda _, x: x - x.mean(1, keepdim=True),
        lambda _, x: x.cumsum(1),
        lambda _, x: x.flip(1),
        lambda _, x: F.scaled_dot_product_attention(x, x, x),
    ],
)
def test_what_mixes_the_parts_joins_them_for_good(between):
    assert _depth(between, lambda x: x[:, 0]) == 2


def test_a_part_is_followed_through_any_number_of_operations():
    def between(_, x):
        for _ in range(1200):  # deeper than Python's own stack
            x = torch.relu(x)
        return x

    assert _depth(between, lambda x: x[:, :2]) == 4
    assert _depth(between, lambda x: x[:, 2:]) == 2


def test_what_was_written_over_is_no_part():
    def over(_, x):
        normed = F.layer_norm(x, (8,))
        normed[:, :1] = normed[:, 4:]
        return normed

    assert _depth(over, lambda x: x[:, 0]) == 2
    assert _depth(over, lambda x: x[:, 2:]) == 2


class ClassAttention(nn.Module):
    """A class token that reads patches, which stay as they are (CaiT)."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj, self.mlp = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, token, x):
        read = self.norm(torch.cat([token, x], 1))
        key, value = self.kv(read).chunk(2, -1)
        scores = self.q(read[:, :1]) @ key.transpose(1, 2)
        token = token + self.proj(scores.softmax(-1) @ value)
        return token + self.mlp(self.norm2(token))


class Cait(nn.Module):
    def __init__(self, depth, width=8):
        super().__init__()
        self.patch, self.token = nn.Linear(4, width), nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.ModuleList(ClassAttention(width) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x):
        x = self.patch(x)
        for block in self.blocks:
            x = x + block(x)
        token = self.token.expand(len(x), -1, -1)
        for block in self.last:
            token = block(token, x)
        return self.head(self.norm(torch.cat([token, x], 1))[:, 0])


@pytest.mark.parametrize("depth", [2, 5])
def test_patches_reach_the_head_through_the_class_token(depth):
    # patch, blocks, then keys and values, projection, sums of attention and MLP, head
    assert etastar.effective_depth(Cait(depth), torch.zeros(2, 6, 4)).effective_depth == depth + 6


def test_the_criterion_is_measured_where_a_part_is_taken_out():
    torch.manual_seed(0)
    batch = torch.randn(4, 6, 4), torch.randint(3, (4,))
    report = etastar.measure_update(
        Cait(2), batch, lambda z, y: F.cross_entropy(z, y), optimizer="sgd"
    )
    stable = etastar.check_stability(Cait(2), batch, lambda z, y: F.cross_entropy(z, y))
    assert report.layers
    assert stable.layers
