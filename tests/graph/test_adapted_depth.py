"""Layers with adapters beside them: the depth counts their sums, and a note says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from etastar.graph.capture import effective_depth

X = torch.zeros(2, 3, 8)


class Adapted(nn.Linear):
    def __init__(self, size, rank=2, *, bent=False):
        super().__init__(size, size)
        self.first, self.second = nn.Linear(size, rank), nn.Linear(rank, size, bias=False)
        self.bent = bent

    def forward(self, x):
        h = self.first(x)
        return super().forward(x) + 0.5 * self.second(h.relu() if self.bent else h)


class Weights(nn.Module):
    """The factors of a convolution's adapter as bare parameters."""

    def __init__(self, channels):
        super().__init__()
        self.own = nn.Conv1d(channels, channels, 1)
        self.down = nn.Parameter(torch.randn(channels, 2))
        self.up = nn.Parameter(torch.zeros(2, channels))

    def forward(self, x):
        return self.own(x.mT).mT + (x @ self.down) @ self.up


class Residual(nn.Module):
    """Blocks whose layers are adapted: their sums are no nodes of the shortest path."""

    def __init__(self, depth):
        super().__init__()
        self.stem, self.head = Adapted(8), Adapted(8)
        self.blocks = nn.ModuleList(Adapted(8) for _ in range(depth))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x).relu()
        return self.head(x)


def chain(make, depth):
    return nn.Sequential(*[layer for _ in range(depth) for layer in (make(), nn.GELU())])


def said(report):
    return [note for note in report.notes if "without adapters" in note]


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("make", [lambda: Adapted(8), lambda: Weights(8)])
def test_a_chain_of_adapted_layers_says_its_depth_without_them(make, depth):
    report = effective_depth(chain(make, depth), X)
    assert report.effective_depth == 2 * depth
    (note,) = said(report)
    assert note.startswith(f"{depth} of {2 * depth} counted nodes")
    assert note.endswith(f"the effective depth is {depth}")


def test_adapters_off_the_shortest_path_do_not_count():
    report = effective_depth(Residual(4), X)
    assert report.effective_depth == 8
    (note,) = said(report)
    assert note.startswith("2 of 8 counted nodes")


def test_other_sums_of_layers_are_no_adapters():
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))

        def forward(self, x):
            return self.left(x) + self.right(x)

    for make in (Projected, lambda: Adapted(8, bent=True)):
        assert said(effective_depth(chain(make, 3), X)) == []
