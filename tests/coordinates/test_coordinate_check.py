"""Coordinate checks of networks whose answer is known."""

import math

import pytest
import torch
from torch import nn

from etastar.coordinates import coordinate_check
from etastar.errors import MeasureError, OptimizerError
from etastar.optimizers import OPTIMIZERS

RATE = 1e-6  # so small that every change is of first order
WIDTHS = [16, 64, 256]


def total(output, targets):
    return output.sum()


class Constant(nn.Module):
    """Three linear layers, every weight of a layer the same number: every unit does the same."""

    def __init__(self, width, readout_power=1.0):
        super().__init__()
        self.first = nn.Linear(4, width, bias=False)
        self.hidden = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 1, bias=False)
        with torch.no_grad():
            self.first.weight.fill_(0.5)
            self.hidden.weight.fill_(1 / width)
            self.head.weight.fill_(width**-readout_power)
        self.double()

    def forward(self, x):
        return self.head(self.hidden(self.first(x)))


class Stack(nn.Module):
    """x + w_1 x, and so on, all w zero: a step with gradient x moves the stream by K rate x^2."""

    def __init__(self, depth):
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(depth))
        for branch in self.branches:
            nn.init.zeros_(branch.weight)
        self.double()

    def forward(self, x):
        for branch in self.branches:
            x = x + branch(x)
        return x


ONES = torch.ones(1, 4, dtype=torch.float64), None
ONE = torch.ones(1, 1, dtype=torch.float64), None


def varied(axes):
    """Sizes in which one setting changes at a time."""
    first = {name: values[0] for name, values in axes.items()}
    return [{**first, name: value} for name, values in axes.items() for value in values]


def check(factory, sizes, batch=ONES, **settings):
    settings = {"num_steps": 1, "seeds": [0], "optimizer": "sgd", "lr": RATE} | settings
    return coordinate_check(factory, varied(sizes), batch, total, **settings)


def by_module(report, axis=0):
    return {layer.module: layer for layer in report.axes[axis].layers}


def test_sizes_and_changes_are_those_of_the_closed_form():
    found = by_module(check(Constant, {"width": WIDTHS}))
    # z = (2, 2, 2); one step: dW = rate x (grad, 4 ones in), and what passes through
    assert found["first"].init.curves == ((2.0,) * 3,)
    first = [RATE * 4 / n for n in WIDTHS]
    hidden = [RATE * (4 / n + 4 * n / n) for n in WIDTHS]
    head = [RATE * (4 / n + 4 + 4 * n) for n in WIDTHS]
    for layer, expected in zip(("first", "hidden", "head"), (first, hidden, head), strict=True):
        actual = found[layer].change.curves[0]
        assert actual == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_exponents_are_those_of_the_closed_form(power):
    def factory(width):
        return Constant(width, power)

    found = by_module(check(factory, {"width": WIDTHS}, lr=1e-4))
    assert found["first"].change.exponent == pytest.approx(-power, abs=0.02)
    assert found["first"].verdict == "shrinks"
    assert found["head"].init.exponent == pytest.approx(1 - power, abs=1e-5)
    assert found["head"].verdict == "grows"
    assert found["head"].change.interval is None


def test_a_step_of_fixed_size_moves_the_first_layer_alike_at_every_width():
    found = by_module(check(Constant, {"width": WIDTHS}, optimizer="adam", lr=1e-4))
    assert found["first"].change.exponent == pytest.approx(0.0, abs=1e-3)
    assert found["first"].verdict == "flat"
    assert found["hidden"].change.exponent == pytest.approx(1.0, abs=0.1)
    assert found["hidden"].verdict == "grows"


def test_the_parameters_groups_and_mends_are_named():
    report = check(Constant, {"width": WIDTHS}, optimizer="adam", lr=1e-4)
    found = by_module(report)
    assert found["hidden"].parameters == ("hidden.weight",)
    assert found["hidden"].groups == ("Adam, group 0",)
    (remedy,) = found["hidden"].remedies
    assert (remedy.parameter, remedy.setting) == ("hidden.weight", "learning rate")
    assert (remedy.found, remedy.wanted) == (1.0, 16 / 256)
    assert "width='mup'" in found["hidden"].advice
    assert found["first"].remedies == ()
    assert found["first"].advice == ""
    assert [layer.module for layer in report.failures] == ["hidden", "head"]


def test_a_stream_that_each_branch_moves_grows_with_depth():
    axis = check(Stack, {"depth": [2, 4, 8]}, ONE, lr=1e-4).axes[0]
    assert axis.kind == "depth"
    stream = next(layer for layer in axis.layers if layer.name == "addition")
    assert stream.change.exponent == pytest.approx(1.0, abs=0.01)
    assert stream.verdict == "grows"
    assert stream.parameters == ("branches.*.weight",)
    assert stream.remedies[0].parameter == "branches.*.weight"
    assert "complete-p" in stream.advice


def test_a_rate_of_one_over_depth_keeps_the_stream():
    def factory(depth):
        model = Stack(depth)
        return model, torch.optim.SGD(model.parameters(), lr=1e-3 / depth)

    report = check(factory, {"depth": [2, 4, 8]}, ONE, optimizer=None, lr=None)
    stream = next(layer for layer in report.axes[0].layers if layer.name == "addition")
    assert stream.change.exponent == pytest.approx(0.0, abs=0.01)
    assert stream.verdict == "flat"


def test_a_function_of_the_model_and_one_of_both_agree():
    def both(width):
        model = Constant(width)
        return model, torch.optim.Adam(model.parameters(), lr=1e-3)

    def optimizer(model):
        return torch.optim.Adam(model.parameters(), lr=1e-3)

    settings = {"lr": None, "num_steps": 2}
    first = check(both, {"width": [4, 8]}, optimizer=None, **settings)
    kinds = [torch.optim.Adam, OPTIMIZERS["adam"]]
    others = [check(Constant, {"width": [4, 8]}, optimizer=o, lr=1e-3, num_steps=2) for o in kinds]
    second = check(Constant, {"width": [4, 8]}, optimizer=optimizer, **settings)
    third = check(Constant, {"width": [4, 8]}, optimizer="adam", lr=1e-3, num_steps=2)
    assert first == second == third == others[0] == others[1]


def test_several_optimizers_step_together():
    def optimizer(model):
        muon = torch.optim.Muon([model.hidden.weight], lr=1e-3)
        rest = [model.first.weight, model.head.weight]
        return muon, torch.optim.SGD(rest, lr=1e-3)

    found = by_module(check(Constant, {"width": [4, 8]}, optimizer=optimizer, lr=None))
    assert found["hidden"].groups == ("Muon, group 0",)
    assert found["head"].groups == ("SGD, group 0",)


def test_both_axes_are_checked_the_others_at_their_first_value():
    seen = []

    def factory(depth, width):
        seen.append((depth, width))
        layers = [nn.Linear(width, width) for _ in range(depth)]
        return nn.Sequential(nn.Linear(4, width), *layers, nn.Linear(width, 1)).double()

    report = check(factory, {"depth": [2, 3], "width": [8, 4]})
    assert set(seen) == {(2, 8), (3, 8), (2, 4)}
    assert [(axis.axis, axis.kind, axis.sizes) for axis in report.axes] == [
        ("depth", "depth", (2, 3)),
        ("width", "width", (4, 8)),
    ]
    assert report.axes[1].layers[1].module == "1"
    assert report.passed == (report.axes[0].passed and report.axes[1].passed)


def test_dropout_draws_the_same_mask_before_and_after():
    def factory(width):
        return nn.Sequential(nn.Linear(4, width), nn.Dropout(0.5), nn.Linear(width, 1)).double()

    report = check(factory, {"width": [8, 16]}, lr=1e-12)
    assert max(max(layer.change.curves[0]) for layer in report.axes[0].layers) < 1e-6


def test_networks_of_bfloat16_are_checked_in_float32():
    def low(width):
        return Constant(width).bfloat16()

    def high(width):
        return low(width).float()

    batch = torch.ones(1, 4, dtype=torch.bfloat16), None
    found, same = (check(make, {"width": [16, 64]}, batch, lr=1e-3) for make in (low, high))
    assert found == same


def test_divergence_grows():
    report = check(Constant, {"width": WIDTHS}, lr=1e30, num_steps=4)
    head = by_module(report)["head"]
    assert head.change.exponent == math.inf
    assert head.verdict == "grows"
    assert report.as_dict()["axes"][0]["layers"][-1]["change"]["exponent"] is None


def test_layers_that_some_size_lacks_are_listed():
    def factory(depth):
        layers = [nn.Linear(4, 4, bias=False) for _ in range(depth)]
        return nn.ModuleDict({"more": nn.Sequential(*layers)})["more"]

    def with_head(depth):
        model = nn.Sequential()
        model.add_module("body", factory(depth))
        if depth > 2:
            model.add_module("extra", nn.Linear(4, 4))
        model.add_module("head", nn.Linear(4, 1))
        return model.double()

    axis = check(with_head, {"depth": [2, 4]}).axes[0]
    assert axis.unmatched == ("extra: extra.weight",)
    assert [layer.module for layer in axis.layers] == ["body.*", "body.*", "head"]
    assert [layer.role for layer in axis.layers] == ["input", "hidden", "output"]


def test_random_numbers_are_left_as_they_were():
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    check(Constant, {"width": [4, 8]})
    assert torch.equal(torch.rand(2), expected)


def changing(width):
    class Other(Constant):
        def forward(self, x):
            out = super().forward(x)
            return out.relu() if self.head.weight.sum() < 0.99 else out

    return Other(width)


def test_another_network_for_another_seed_is_refused():
    def factory(width):
        layers = [nn.Linear(width, width) for _ in range(1 + torch.initial_seed())]
        return nn.Sequential(nn.Linear(4, width), *layers).double()

    with pytest.raises(MeasureError, match="other layers by seed"):
        check(factory, {"width": [4, 8]}, seeds=[0, 1])


@pytest.mark.parametrize(
    ("factory", "sizes", "settings", "message"),
    [
        (Constant, {"width": [4]}, {}, "two different"),
        (Constant, {"width": [0, 4]}, {}, "positive values"),
        (Constant, {"width": "ab"}, {}, "sizes="),
        *(
            (Constant, {"width": [4, 8]}, {"num_steps": n}, "num_steps=")
            for n in (0, 1.5, "x", True)
        ),
        *((Constant, {"width": [4, 8]}, {"seeds": n}, "seeds=") for n in ([], 0, -1, "x", [1.5])),
        (Constant, {"width": [4, 8]}, {"lr": None}, "lr beside the name"),
        *((Constant, {"width": [4, 8]}, {"lr": n}, "lr=") for n in (-1.0, math.nan, "x")),
        (Constant, {"width": [4, 8]}, {"optimizer": None, "lr": None}, "one of the two places"),
        (Constant, {"width": [4, 8]}, {"optimizer": "lamb"}, "sgd, adam, adamw"),
        (lambda width: Constant(8), {"width": [4, 8]}, {}, "same network"),
        (lambda width: None, {"width": [4, 8]}, {}, "torch.nn.Module"),
        (lambda width: 1 / 0, {"width": [4, 8]}, {}, "ZeroDivisionError"),
        (lambda depth: Constant(8), {"width": [4, 8]}, {}, "makes the model: TypeError"),
        (changing, {"width": [4, 8]}, {"lr": 0.1}, "other operations"),
    ],
)
def test_what_cannot_be_checked_is_refused(factory, sizes, settings, message):
    with pytest.raises((MeasureError, OptimizerError), match=message):
        check(factory, sizes, **settings)


@pytest.mark.parametrize("sizes", [None, 3, [], {"width": [4, 8]}, [{"width": 4}, {"depth": 4}]])
def test_sizes_of_another_form_are_refused(sizes):
    with pytest.raises(MeasureError, match="sizes="):
        coordinate_check(Constant, sizes, ONES, total, optimizer="sgd", lr=RATE)


def test_a_sharded_model_is_refused():
    class FlatParameter(nn.Parameter):
        """As FullyShardedDataParallel's, by name."""

    def sharded(width):
        model = Constant(width)
        model.head.weight = FlatParameter(model.head.weight.detach())
        return model

    with pytest.raises(MeasureError, match=r"sharded model.*FlatParameter"):
        check(sharded, {"width": [4, 8]})
