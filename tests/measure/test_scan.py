"""Scans over depth and width: closed-form exponents, intervals, refusals."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from etastar.errors import MeasureError
from etastar.measure import depth_scan, width_scan


def total(output, _):
    return output.sum()


class Doubling(nn.Module):
    """`depth` scalar layers of weight one in a row: dz_l / d eta = -l x^2."""

    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(depth))
        for layer in self.layers:
            nn.init.ones_(layer.weight)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


ONE = (torch.ones(1, 1), None)


def mean_of_squares(depth):
    return sum(layer**2 for layer in range(1, depth + 1)) / depth


def test_the_exponent_of_a_scalar_chain_is_that_of_the_closed_form():
    depths = (2, 4, 8, 16)
    scan = depth_scan(Doubling, depths, ONE, total, optimizer="sgd", method="forward")
    rates = [mean_of_squares(depth) ** -0.5 for depth in depths]
    assert [p.report.eta_star for p in scan.points] == pytest.approx(rates, rel=1e-5)
    expected = np.polyfit(np.log(depths), np.log(rates), 1)[0]
    assert scan.exponent == pytest.approx(expected, rel=1e-4)
    assert scan.exponent_interval is None
    first = scan.slopes[0]
    assert first.between == (2, 4)
    assert first.exponent == pytest.approx(math.log(rates[1] / rates[0]) / math.log(2), rel=1e-4)
    assert [p.abscissa for p in scan.points] == [2.0, 4.0, 8.0, 16.0]


def chain(depth, width=16):
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), nn.Tanh())]
    return nn.Sequential(*layers)


def test_seeds_give_an_interval_that_holds_the_exponent():
    batch = (torch.ones(2, 16), None)
    scan = depth_scan(chain, (2, 4, 8), batch, total, optimizer="sgd", seeds=range(4))
    low, high = scan.exponent_interval
    assert low <= scan.exponent <= high
    assert low < high
    assert all(slope.interval[0] <= slope.exponent <= slope.interval[1] for slope in scan.slopes)
    data = scan.as_dict()
    assert data["exponent_interval"] == [low, high]
    assert [point["effective_depth"] for point in data["points"]] == [2, 4, 8]


def test_the_order_of_the_sizes_does_not_matter():
    batch = (torch.ones(2, 16), None)
    up = depth_scan(chain, (2, 4), batch, total, optimizer="sgd")
    down = depth_scan(chain, (4, 2), batch, total, optimizer="sgd")
    assert up == down


class Wide(nn.Module):
    """z = W x with x of `width` ones: under SGD dz / d eta = -width in every unit."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, 1, bias=False)
        self.width = width

    def forward(self, x):
        return self.layer(x.expand(-1, self.width))


def test_the_exponent_over_width_of_a_sum_is_minus_one():
    scan = width_scan(Wide, (8, 16, 64), ONE, total, optimizer="sgd")
    assert scan.exponent == pytest.approx(-1.0, abs=1e-3)
    assert scan.as_dict()["points"][2]["width"] == 64.0


def test_every_size_can_have_an_optimizer_of_its_own():
    def sgd(model, lr):
        return torch.optim.SGD(model.parameters(), lr=lr)

    optimizers = {width: partial(sgd, lr=1.0 / width) for width in (8, 16)}
    scan = width_scan(Wide, (8, 16), ONE, total, optimizer=optimizers, lr_unit=1.0)
    assert scan.exponent == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(MeasureError, match="one for each"):
        width_scan(Wide, (8, 32), ONE, total, optimizer=optimizers)


def test_one_size_and_dead_networks_are_refused():
    with pytest.raises(MeasureError, match="two different"):
        depth_scan(Doubling, (4, 4), ONE, total, optimizer="sgd")

    def infinite(depth):
        model = Doubling(depth)
        nn.init.constant_(model.layers[0].weight, math.inf)
        return model

    with pytest.raises(MeasureError):
        depth_scan(infinite, (2, 4), ONE, total, optimizer="sgd")
