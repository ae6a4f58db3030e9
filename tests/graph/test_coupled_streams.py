"""Two streams that add to each other, as in reversible networks: no law scales half of them."""

import pytest
import torch
from torch import nn

from etastar import Tuned, capture_graph, plan_transfer
from etastar.errors import LawError


class Inner(nn.Sequential):
    def __init__(self, width):
        super().__init__(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )


def reversible(one, two, first, second):  # arXiv 1707.04585
    for f, g in zip(first, second, strict=True):
        one = one + f(two)
        two = two + g(one)
    return one, two


def turned(one, two, first, second):  # additive couplings, arXiv 1410.8516
    for f, g in zip(first, second, strict=True):
        one, two = two, one + f(two)
        one, two = two, one + g(two)
    return one, two


def apart(one, two, first, second):
    for f, g in zip(first, second, strict=True):
        one, two = one + f(one), two + g(two)
    return one, two


class Pair(nn.Module):
    def __init__(self, form, depth, copies):
        super().__init__()
        self.form, self.copies = form, copies
        self.stem, self.head = nn.Linear(6, 8 if copies else 16), nn.Linear(16, 3)
        self.first, self.second = (nn.ModuleList(map(Inner, [8] * depth)) for _ in range(2))

    def forward(self, x):
        x = self.stem(x)
        halves = (x, x) if self.copies else x.chunk(2, -1)
        return self.head(torch.cat(self.form(*halves, self.first, self.second), -1))


def network(form, depth, copies=False):
    return Pair(form, depth, copies), torch.zeros(2, 6)


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("form", [reversible, turned])
@pytest.mark.parametrize("law", ["complete-p", "depth-mup"])
def test_a_branch_multiplier_for_coupled_streams_is_refused(form, copies, law):
    base, target = network(form, 2, copies), network(form, 4, copies)
    with pytest.raises(LawError, match="cannot carry a multiplier"):
        plan_transfer(Tuned(base, 0.01), target, optimizer="adamw", law=law)


@pytest.mark.parametrize("form", [reversible, turned])
def test_the_default_choice_leaves_the_weights_of_coupled_streams_alone(form):
    plan = plan_transfer(Tuned(network(form, 3), 0.01), network(form, 6), optimizer="adamw")
    assert {entry.init for entry in plan.parameters} == {1.0}
    assert any(note.startswith("coupled streams: 5 of 12") for note in plan.notes)


def test_streams_side_by_side_carry_their_multipliers():
    base, target = network(apart, 2), network(apart, 4)
    plan = plan_transfer(Tuned(base, 0.01), target, optimizer="adamw", law="complete-p")
    ends = {e.name.split(".", 2)[2] for e in plan.parameters if e.init == 0.5}
    assert ends == {"3.weight", "3.bias"}
    assert sum(entry.init == 0.5 for entry in plan.parameters) == 16
    assert not any("coupled" in note for note in capture_graph(target[0], target[1]).depth().notes)
