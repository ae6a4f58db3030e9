"""What moves the end of a branch under SGD: its rate carries 1/K under the law `structure`."""

import pytest
import torch
from torch import nn

import etastar
from etastar.graph import capture_graph
from etastar.models import build, example_inputs
from etastar.transfer import Tuned, plan_transfer

X = torch.randn(8, 16)


class Stream(nn.Module):
    """Two-layer branches that end in `end`."""

    def __init__(self, depth, end=nn.Identity):
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), end())
            for _ in range(depth)
        )

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.full((32,), 0.5))

    def forward(self, x):
        return self.gain * x


def rates(base, target, optimizer="sgd", law="structure"):
    plan = plan_transfer(Tuned(base, 0.1), target, optimizer=optimizer, law=law)
    return {entry.name: entry.lr for entry in plan.parameters}


def networks(end=nn.Identity):
    return [(Stream(depth, end), X) for depth in (4, 16)]


def test_biases_at_the_end_of_two_layer_branches_carry_one_over_k():
    found = rates(*networks())
    assert found["blocks.7.2.bias"] == pytest.approx(0.1 / 4)
    others = {name: lr for name, lr in found.items() if not name.endswith("2.bias")}
    assert set(others.values()) == {0.1}
    assert len(others) == 4 + 3 * 16


def test_a_norm_at_the_end_carries_it_with_gain_and_shift():
    found = rates(*networks(lambda: nn.LayerNorm(32)))
    assert found["blocks.7.3.weight"] == found["blocks.7.3.bias"] == pytest.approx(0.1 / 4)
    assert found["blocks.7.2.weight"] == 0.1


def test_a_layer_scale_reads_what_the_weights_made():
    found = rates(*networks(Scale))
    assert found["blocks.7.3.gain"] == found["blocks.7.2.weight"] == 0.1


@pytest.mark.parametrize("name", ["gpt", "vit"])
def test_of_the_zoo(name):
    sizes = [(build(name, depth=d), example_inputs(name, depth=d)) for d in (2, 8)]
    found = rates(*sizes)
    graph = capture_graph(sizes[1][0], *sizes[1][1])
    ends = {i.name for i in graph.parameters if i.role == "bias" and i.branch_last}
    assert len(ends) == 16
    assert [found[name] for name in ends] == pytest.approx([0.1 / 4] * 16)
    assert {lr for name, lr in found.items() if name not in ends} == {0.1}


def test_one_layer_branches_carry_it_in_all_parameters():
    sizes = [(build("resmlp", depth=d, branch_layers=1), example_inputs("resmlp")) for d in (4, 16)]
    found = rates(*sizes)
    assert list(found.values()) == pytest.approx([0.1 / 4] * len(found))


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adams_rates_are_alike(optimizer):
    assert len(set(rates(*networks(), optimizer).values())) == 1


def change_by_ends(depth, *, base_depth=4):
    """Mean square change of the stream by one step of the last biases alone."""
    torch.manual_seed(0)
    model, (base, _) = Stream(depth), (Stream(base_depth), X)
    lr = rates((base, X), (model, X))
    etastar.initialize_(model, capture_graph(model, X))
    model.last = nn.Identity()
    direction = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    before = model(X)
    (before * direction).sum().backward()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("2.bias"):
                parameter.sub_(1e-4 * lr[name] * parameter.grad)
        return (model(X) - before).square().mean().item()


def test_their_update_no_longer_grows_with_depth():
    assert change_by_ends(64) / change_by_ends(4) == pytest.approx(1.0, rel=0.5)
