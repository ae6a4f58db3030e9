"""Scans over depth and width: closed-form exponents, intervals, refusals."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from etastar.errors import MeasureError
from etastar.measure import UntilPrecise, scan_updates


def total(output, _):
    return output.sum()


def sizes(name, values):
    return [{name: value} for value in values]


def scan(make, where, batch, **options):
    every = {"optimizer": "sgd", "pre_activations": "layers", "seeds": 1, **options}
    return scan_updates(make, where, batch, total, **every)


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
    report = scan(Doubling, sizes("depth", depths), ONE)
    rates = [mean_of_squares(depth) ** -0.5 for depth in depths]
    assert [p.report.eta_star for p in report.points] == pytest.approx(rates, rel=1e-3)
    expected = np.polyfit(np.log(depths), np.log(rates), 1)[0]
    found = report.exponents["depth"]
    assert found.exponent == pytest.approx(expected, rel=1e-3)
    assert found.interval is None
    assert found.values == depths
    assert found.slopes[0] == pytest.approx(math.log(rates[1] / rates[0]) / math.log(2), rel=1e-3)
    assert (found.over, found.abscissas) == ("effective depth", (2.0, 4.0, 8.0, 16.0))


def chain(depth, width=16):
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), nn.Tanh())]
    return nn.Sequential(*layers)


def test_seeds_give_an_interval_that_holds_the_exponent():
    batch = (torch.ones(2, 16), None)
    report = scan(chain, sizes("depth", (2, 4, 8)), batch, seeds=range(4))
    found = report.exponents["depth"]
    low, high = found.interval
    assert low <= found.exponent <= high
    assert low < high
    data = json.loads(json.dumps(report.as_dict()))
    assert data["exponents"]["depth"]["interval"] == [low, high]
    assert [point["effective_depth"] for point in data["points"]] == [2, 4, 8]


class Scattered(Doubling):
    """The same with an input that each network scales by itself: log M varies by `scatter`."""

    def __init__(self, depth, scatter=1.0):
        scale = float(torch.exp(0.5 * scatter * torch.randn(())))  # first, the same at all depths
        super().__init__(depth)
        self.scale = scale

    def forward(self, x):
        return super().forward(self.scale * x)


def own_draws(depth):
    torch.manual_seed(torch.initial_seed() * 64 + depth)
    return Scattered(depth)


def test_the_exponent_is_held_from_any_first_seed():
    """Three seeds and a bootstrap of their mean missed it from most of them."""
    depths = (2, 4, 8)
    rates = [mean_of_squares(depth) ** -0.5 for depth in depths]
    expected = np.polyfit(np.log(depths), np.log(rates), 1)[0]
    found = [
        scan(own_draws, sizes("depth", depths), ONE, seeds=UntilPrecise(0.6, first=first))
        for first in range(0, 500, 100)
    ]
    intervals = [one.exponents["depth"].interval for one in found]
    assert all(low < expected < high for low, high in intervals)
    assert all(high - low <= 1.2 for low, high in intervals)
    assert {one.shortfall for one in found} == {""}
    assert len({one.points[0].report.seeds for one in found}) == 5


def test_what_a_seed_does_to_all_sizes_drops_out_of_the_exponent():
    """Sizes share seeds: each has an exponent of its own, however far their rates lie apart."""
    found = scan(Scattered, sizes("depth", (2, 4)), ONE, seeds=None)
    low, high = found.exponents["depth"].interval
    assert high - low < 1e-2
    assert len(found.points[0].report.seeds) == 3
    own_low, own_high = found.points[0].report.eta_star_interval
    assert math.log(own_high / own_low) > 0.5


def test_a_scan_says_what_it_cost_and_where_it_fell_short():
    asked = UntilPrecise(1e-3, at_most=3)
    report = scan(own_draws, sizes("depth", (2, 4)), ONE, seeds=asked)
    assert report.num_passes == sum(point.report.num_passes for point in report.points) >= 2 * 3 * 5
    assert f"3 seeds (0 to 2), {report.num_passes} forward passes" in str(report)
    assert "3 seeds, the most allowed" in str(report)
    assert report.as_dict()["shortfall"] == report.shortfall != ""


def test_the_order_of_the_sizes_does_not_matter():
    batch = (torch.ones(2, 16), None)
    up = scan(chain, sizes("depth", (2, 4)), batch)
    down = scan(chain, sizes("depth", (4, 2)), batch)
    assert up.exponents == down.exponents


class Wide(nn.Module):
    """z = W x with x of `width` ones: under SGD dz / d eta = -width in every unit."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, 1, bias=False)
        self.width = width

    def forward(self, x):
        return self.layer(x.expand(-1, self.width))


def test_the_exponent_over_width_of_a_sum_is_minus_one():
    found = scan(Wide, sizes("width", (8, 16, 64)), ONE).exponents["width"]
    assert found.exponent == pytest.approx(-1.0, abs=1e-3)
    assert (found.over, found.abscissas) == ("width", (8.0, 16.0, 64.0))


def test_depth_and_width_have_an_exponent_each_where_one_of_them_varies():
    def make(depth, width):
        return chain(depth, width)

    class Fitting(nn.Module):
        def __init__(self, depth, width):
            super().__init__()
            self.body, self.width = make(depth, width), width

        def forward(self, x):
            return self.body(x[:, : self.width])

    every = [{"depth": d, "width": w} for d in (2, 4) for w in (4, 8, 16)]
    batch = (torch.ones(2, 16), None)
    found = scan(Fitting, every, batch)
    assert len(found.points) == 6
    assert {name: one.over for name, one in found.exponents.items()} == {
        "depth": "effective depth", "width": "width",
    }  # fmt: skip
    alone = scan(Fitting, [size for size in every if size["depth"] == 2], batch)
    assert found.exponents["width"] == alone.exponents["width"]


def test_every_size_can_have_an_optimizer_of_its_own():
    def planned(width):
        model = Wide(width)
        return model, torch.optim.SGD(model.parameters(), lr=1.0 / width)

    found = scan(planned, sizes("width", (8, 16)), ONE, optimizer=None, lr_unit=1.0)
    assert found.exponents["width"].exponent == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(MeasureError, match="one of the two places"):
        scan(planned, sizes("width", (8, 16)), ONE)
    with pytest.raises(MeasureError, match="one of the two places"):
        scan(Wide, sizes("width", (8, 16)), ONE, optimizer=None)


def test_a_network_without_an_effective_depth_is_scanned_over_its_setting():
    class Again(nn.Module):
        """The same weight twice on one path, which has no effective depth."""

        def __init__(self, width):
            super().__init__()
            self.layer = nn.Linear(width, width, bias=False)
            self.width = width

        def forward(self, x):
            x = x.expand(-1, self.width)
            return self.layer(torch.tanh(self.layer(x)))

    found = scan(Again, sizes("width", (4, 8)), ONE)
    assert found.exponents["width"].over == "width"


def test_networks_of_bfloat16_are_scanned_in_float32():
    def low(depth):
        return chain(depth).bfloat16()

    def high(depth):
        return low(depth).float()

    batch = (torch.ones(2, 16, dtype=torch.bfloat16), None)
    found, same = (scan(make, sizes("depth", (2, 4)), batch) for make in (low, high))
    assert found == same
    assert [point.effective_depth for point in found.points] == [2, 4]


def test_sizes_of_one_depth_have_no_exponent_between_them():
    def halved(depth):
        return chain(depth // 2)

    found = scan(halved, sizes("depth", (4, 5, 8)), (torch.ones(2, 16), None)).exponents["depth"]
    assert (found.values, found.abscissas) == ((4, 5, 8), (2.0, 2.0, 4.0))
    assert len(found.slopes) == 1


def test_one_size_and_dead_networks_are_refused():
    def infinite(depth):
        model = Doubling(depth)
        nn.init.constant_(model.layers[0].weight, math.inf)
        return model

    with pytest.raises(MeasureError, match="loss"):
        scan(infinite, sizes("depth", (2, 4)), ONE)


@pytest.mark.parametrize(
    "where",
    [
        *([{"depth": 4}, {"depth": 4}], [], None, 3, "ab", ["ab", "cd"]),
        *([{"depth": 1.5}, {"depth": 2.5}], [{"depth": 0}, {"depth": 2}]),
        *([{"depth": 2}, {"width": 2}], {"depth": [2, 4]}, [{"depth": True}, {"depth": 2}]),
    ],
)
def test_sizes_of_another_form_are_refused(where):
    with pytest.raises(MeasureError, match="sizes="):
        scan(Doubling, where, ONE)


def test_sizes_in_which_nothing_varies_alone_are_refused():
    def make(depth, width):
        return Doubling(depth)

    with pytest.raises(MeasureError, match="one setting alone"):
        scan(make, [{"depth": 2, "width": 1}, {"depth": 4, "width": 2}], ONE)


def test_a_scan_shows_every_size_within_80_columns():
    batch = (torch.ones(2, 16), None)
    report = scan(chain, sizes("depth", (2, 4)), batch, seeds=2)
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("eta* ~ (effective depth)^")
    assert sum(line.startswith("depth=") for line in lines) == 2
