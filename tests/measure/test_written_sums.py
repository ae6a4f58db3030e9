"""Which sums are measured: a residual addition however it is written, and no sum of a chain."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.coordinates import coordinate_check
from etastar.init import check_stability
from etastar.measure import measure_update

SUMS = {
    "stack": lambda x, y: torch.stack([x, y]).sum(0),
    "view": lambda x, y: torch.cat([x, y], -1).view(len(x), 2, -1).sum(1),
    "foreach": lambda x, y: torch._foreach_add([x], [y])[0],
}
SCALED = {
    "mean": lambda x, y: torch.stack([x, y], -1).mean(-1),
    "cumsum": lambda x, y: torch.stack([x, y]).cumsum(0)[-1],
}


class Residual(nn.Module):
    def __init__(self, add, width=16):
        super().__init__()
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 3)
        self.branches = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.add = add

    def forward(self, x):
        x = self.first(x)
        for branch in self.branches:
            x = self.add(x, branch(torch.tanh(x)))
        return self.last(x)


@pytest.fixture(scope="module")
def examples():
    draw = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (6,), generator=draw)
    return torch.randn(6, 8, generator=draw), targets


@pytest.mark.parametrize("add", SUMS.values(), ids=SUMS)
def test_the_stream_is_that_of_a_plain_sum(add, examples):
    torch.manual_seed(0)
    model = Residual(torch.add)
    same = copy.deepcopy(model)
    same.add = add
    plain, written = (
        measure_update(one, examples, F.cross_entropy, optimizer="sgd") for one in (model, same)
    )
    assert written.eta_star == pytest.approx(plain.eta_star, rel=1e-3)
    expected, found = (check_stability(one, examples, F.cross_entropy) for one in (model, same))
    assert [layer.forward for layer in found.layers] == pytest.approx(
        [layer.forward for layer in expected.layers]
    )
    assert [
        layer.gradient for layer in found.layers if layer.gradient is not None
    ] == pytest.approx(
        [layer.gradient for layer in expected.layers if layer.gradient is not None], rel=1e-4
    )


@pytest.mark.parametrize("add", SCALED.values(), ids=SCALED)
def test_means_and_cumulative_sums_are_measured_as_they_are(add, examples):
    model = Residual(add)
    found = measure_update(model, examples, F.cross_entropy, optimizer="sgd")
    assert [layer.name for layer in found.layers] == ["addition"] * 3
    kinds = [layer.kind for layer in check_stability(model, examples, F.cross_entropy).layers]
    assert kinds.count("residual addition") == 3


def test_a_coordinate_check_sees_it(examples):
    def network(width):
        return Residual(SUMS["stack"], width)

    sizes = [{"width": 8}, {"width": 16}]
    every = {"optimizer": "sgd", "lr": 0.1, "seeds": 1}
    report = coordinate_check(network, sizes, examples, F.cross_entropy, **every)
    assert sum(layer.role is None for layer in report.axes[0].layers) == 3


class Dueling(nn.Module):
    """A chain whose output is a sum of two layers: there is no residual stream."""

    def __init__(self, depth):
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.value, self.advantage = nn.Linear(8, 1), nn.Linear(8, 3)

    def forward(self, x):
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.value(x) + self.advantage(x)


def summed(output, _):
    return output.sum()


def test_a_sum_that_is_no_stream_leaves_the_hidden_layers():
    torch.manual_seed(0)
    examples = (torch.randn(4, 8), None)
    found = measure_update(Dueling(2), examples, summed, optimizer="sgd")
    assert [layer.module for layer in found.layers] == ["hidden.0", "hidden.1"]
    (alone,) = measure_update(Dueling(0), examples, summed, optimizer="sgd").layers
    assert alone.name == "addition"
