"""The structure law on branches with several ways, and on streams within branches."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.laws import ParamPair, Structure, TransferCase
from etastar.optimizers import optimizer_kind
from etastar.transfer import read_architecture

SGD, ADAM = (optimizer_kind(name) for name in ("sgd", "adam"))
X = torch.zeros(2, 3, 8)


class Adapted(nn.Linear):
    """A layer with an adapter beside it."""

    def __init__(self, size):
        super().__init__(size, size)
        self.first, self.second = nn.Linear(size, 2, bias=False), nn.Linear(2, size, bias=False)

    def forward(self, x):
        return super().forward(x) + self.second(self.first(x))


class TwoLayers(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.up, self.down = layer(8), layer(8)

    def forward(self, x):
        return self.down(self.up(x).relu())


class Deepened(nn.Module):
    """A layer whose output a longer way joins before the last layer."""

    def __init__(self):
        super().__init__()
        self.short, self.a, self.b, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        return self.out((self.short(x) + self.b(self.a(x).relu())).relu())


class TalkingHeads(nn.Module):
    """Attention whose scores pass two more layers, over the heads."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.before, self.after = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, 4)).mT for t in self.qkv(x).chunk(3, -1))
        q, k, v = (t.permute(0, 3, 1, 2) for t in (q, k, v))
        scores = self.before((q @ k.mT).permute(0, 2, 3, 1)).softmax(-2)
        made = self.after(scores).permute(0, 3, 1, 2) @ v
        return self.out(made.permute(0, 2, 3, 1).mT.flatten(-2))


class StateSpace(nn.Module):
    """In, a scan with a skip (the sum of a state-space layer), out."""

    def __init__(self):
        super().__init__()
        self.inner, self.step, self.outer = (nn.Linear(8, 8) for _ in range(3))
        self.skip = nn.Parameter(torch.ones(8))

    def forward(self, x):
        u = self.inner(x).relu()
        y = torch.cumsum(F.softplus(self.step(u)) * u, 1)
        return self.outer(y + self.skip * u)


class Inner(nn.Module):
    """A residual stream of `blocks` one-layer blocks between two layers."""

    def __init__(self, blocks):
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(blocks))

    def forward(self, x):
        h = self.inner(x).relu()
        for block in self.blocks:
            h = h + block(h).relu()
        return self.outer(h)


class Residual(nn.Module):
    def __init__(self, depth, make):
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 2)
        self.blocks = nn.ModuleList(make() for _ in range(depth))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def rate(base, target, optimizer, residual="all"):
    """Factor on the rate of the first weight."""
    base, target = (read_architecture((net, X)) for net in (base, target))
    info = target.parameters[0]
    case = TransferCase(base, target, optimizer)
    return Structure(residual).factors(ParamPair(info, info), case).lr


BLOCKS = {
    "plain": lambda: TwoLayers(lambda size: nn.Linear(size, size)),
    "adapters": lambda: TwoLayers(Adapted),
    "deepened": Deepened,
    "talking heads": TalkingHeads,
}


@pytest.mark.parametrize("block", BLOCKS)
def test_of_several_ways_through_a_branch_the_shortest_decides(block):
    base, target = (Residual(depth, BLOCKS[block]) for depth in (2, 8))
    assert rate(base, target, SGD) == pytest.approx(1.0)  # one other weight carries 1/K
    assert rate(base, target, ADAM) == pytest.approx(4**-0.5)
    assert rate(base, target, ADAM, "last") == pytest.approx(1 / 4)


def test_a_single_sum_within_a_branch_adds_nothing():
    base, target = (Residual(depth, StateSpace) for depth in (2, 8))
    plain = [Residual(depth, BLOCKS["plain"]) for depth in (2, 8)]
    for optimizer in (SGD, ADAM):
        for residual in ("all", "last"):
            expected = rate(*plain, optimizer, residual)
            assert rate(base, target, optimizer, residual) == pytest.approx(expected)


def test_a_stream_within_a_branch_multiplies():
    few, many = (lambda: Inner(2)), (lambda: Inner(6))
    outer = rate(Residual(2, few), Residual(8, few), ADAM)
    assert outer == pytest.approx(4**-0.5)  # K of the stream outside alone
    inner = rate(Residual(2, few), Residual(2, many), ADAM)
    assert inner == pytest.approx(2 / 6)  # one layer a block: the inner sum is K
    both = rate(Residual(2, few), Residual(8, many), ADAM)
    assert both == pytest.approx(outer * inner)
