"""The structure law against exponents found by hand, on captured networks and made-up records."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from etastar.depth import DepthReport
from etastar.errors import LawError
from etastar.laws import Architecture, Factors, ParamPair, Structure, TransferCase
from etastar.models import build, example_inputs
from etastar.optimizers import optimizer_kind
from etastar.parameter import ParamInfo
from etastar.transfer import Tuned, plan_transfer, read_architecture

SGD, ADAM, ADAMW, MUON = (optimizer_kind(n) for n in ("sgd", "adam", "adamw", "muon"))


def zoo(name, depth=3, **settings):
    settings = {"depth": depth, "width": 16} | settings
    return read_architecture((build(name, **settings), example_inputs(name, **settings)))


class Branches(nn.Module):
    """Stem, x + (chain of `layers`) per entry of each stage, a layer between stages, head."""

    def __init__(self, *stages, trunk=0):
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.trunk = nn.Sequential(*[m for _ in range(trunk) for m in (nn.Linear(6, 6), nn.ReLU())])
        self.stages = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(*[m for _ in range(n) for m in (nn.ReLU(), nn.Linear(6, 6))])
                for n in stage
            )
            for stage in stages
        )
        self.between = nn.ModuleList(nn.Linear(6, 6) for _ in stages[1:])
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = self.trunk(self.stem(x))
        for number, stage in enumerate(self.stages):
            for block in stage:
                x = x + block(x)
            if number < len(self.between):
                x = self.between[number](x)
        return self.head(x)


def branches(*stages, trunk=0):
    return read_architecture((Branches(*stages, trunk=trunk), (torch.zeros(1, 4),)))


def factor(base, target, optimizer=SGD, residual="all"):
    info = target.parameters[0]
    law = Structure(residual)
    return law.factors(ParamPair(info, info), TransferCase(base, target, optimizer))


@pytest.mark.parametrize("name", ["mlp", "cnn1d", "cnn2d"])
@pytest.mark.parametrize("residual", ["all", "last", "none"])
@pytest.mark.parametrize("optimizer", [SGD, ADAM, MUON], ids=lambda o: o.name)
def test_chains_take_the_power_of_effective_depth(name, residual, optimizer):
    base, deep = zoo(name, 3), zoo(name, 15)
    assert Structure(residual).exponent(base, optimizer=optimizer) == -1.5
    assert factor(base, deep, optimizer, residual).lr == pytest.approx(4**-1.5)


@pytest.mark.parametrize("optimizer", [SGD, ADAM, MUON], ids=lambda o: o.name)
@pytest.mark.parametrize(
    ("name", "layers", "residual", "sgd", "adam"),
    [
        ("resmlp", 1, "all", -1.0, -1.0),
        ("resmlp", 1, "last", -1.0, -1.0),
        ("resmlp", 2, "all", 0.0, -0.5),
        ("resmlp", 2, "last", -1.0, -1.0),
        ("resnet", 1, "all", -1.0, -1.0),
        ("resnet", 2, "all", 0.0, -0.5),
        ("resnet", 2, "none", -1.0, -1.0),
        ("vit", None, "all", 0.0, -0.5),
        ("gpt", None, "all", 0.0, -0.5),
        ("gpt", None, "last", -1.0, -1.0),
    ],
)
def test_the_zoo_by_hand(name, layers, residual, sgd, adam, optimizer):
    settings = {} if layers is None else {"branch_layers": layers}
    base, deep = zoo(name, 2, **settings), zoo(name, 8, **settings)
    exponent = sgd if optimizer is SGD else adam
    assert Structure(residual).exponent(base, optimizer=optimizer) == exponent
    assert factor(base, deep, optimizer, residual).lr == pytest.approx(4**exponent)


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=lambda o: o.name)
def test_three_layer_branches_keep_the_rate(optimizer):
    base, deep = branches([3] * 2), branches([3] * 11)
    assert Structure().exponent(base, optimizer=optimizer) == 0.0
    assert factor(base, deep, optimizer) == Factors()


def test_streams_of_several_stages_add_up():
    base, deep = branches([1] * 2, [1] * 3), branches([1] * 4, [1] * 21)
    assert factor(base, deep).lr == pytest.approx(5 / 25)
    two_layers = branches([2] * 4, [2] * 9), branches([2] * 16, [2] * 25)
    assert factor(*two_layers, SGD) == Factors()
    assert factor(*two_layers, ADAM).lr == pytest.approx((2 + 3) / (4 + 5))


def test_branches_of_one_stream_count_by_their_share():
    base, deep = branches([1, 2] * 2), branches([1, 2] * 8)
    assert factor(base, deep, SGD).lr == pytest.approx((4 + 1) / (16 + 1))
    assert factor(base, deep, ADAM).lr == pytest.approx((4 + 2) / (16 + 4))


def test_a_trunk_that_outgrows_its_stream_counts_as_a_chain():
    base, deep = branches([1] * 2, trunk=2), branches([1] * 6, trunk=14)
    assert factor(base, deep).lr == pytest.approx((16 / 4) ** -0.5 * 2 / 14)
    same_trunk = branches([1] * 16, trunk=2)
    assert factor(base, same_trunk).lr == pytest.approx(2 / 16)


def test_weights_of_a_sum_inside_a_branch_are_no_trunk():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.AvgPool2d(3, stride=1, padding=1)
            self.left, self.right = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
            self.out = nn.Conv2d(16, 16, 3, padding=1)

        def forward(self, x):
            inner = self.left(x.relu()) + self.right(self.pool(x).relu())
            return self.pool(x) + self.out(inner.relu())

    def cells(depth):
        stem = nn.Conv2d(1, 16, 3, padding=1)
        head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 10))
        network = nn.Sequential(stem, *(Cell() for _ in range(depth)), head)
        return read_architecture((network, (torch.zeros(2, 1, 8, 8),)))

    assert factor(cells(2), cells(8), ADAM).lr == pytest.approx(1 / 2)


def test_a_way_of_one_layer_beside_a_longer_one_decides():
    class Parallel(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.stem = nn.Linear(4, 6)
            self.short = nn.ModuleList(nn.Linear(6, 6) for _ in range(depth))
            self.long = nn.ModuleList(
                nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)) for _ in range(depth)
            )
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            x = self.stem(x)
            for short, long in zip(self.short, self.long, strict=True):
                x = x + short(x) + long(x)
            return self.head(x)

    network = read_architecture((Parallel(3), (torch.zeros(1, 4),)))
    assert Structure().exponent(network, optimizer=SGD) == -1.0


def test_a_branch_that_ends_in_an_addition_counts_its_longest_way():
    report = DepthReport(3, (), 3, 2, 3, 1, (1, 3, 9, 27), 3, 1, (1, 3, 9, 27))
    weight = ParamInfo(
        "w", (6, 6), "hidden", 6, 6, layer_type="linear", stream=0, stream_additions=4, branch=0
    )
    inner = [replace(weight, branch_position=n, branch_length=3) for n in range(2)]
    assert Structure().exponent(Architecture(report, tuple(inner)), optimizer=ADAM) == 0.0


def test_a_residual_target_needs_a_residual_base():
    with pytest.raises(LawError, match="streams in the target alone"):
        factor(zoo("mlp"), zoo("resmlp"))
    with pytest.raises(LawError, match="streams in the base alone"):
        factor(zoo("resmlp"), zoo("mlp"))


@pytest.mark.parametrize("residual", ["first", "", None, True])
def test_an_unknown_initialization_is_refused(residual):
    with pytest.raises(LawError, match="one of: all, last, none"):
        Structure(residual)


def test_decoupled_decay_keeps_rate_times_decay():
    found = factor(zoo("resmlp", 2), zoo("resmlp", 8), ADAMW)
    assert (found.lr, found.weight_decay) == (0.25, 4.0)
    assert factor(zoo("resmlp", 2), zoo("resmlp", 8), ADAM).weight_decay == 1.0


def test_width_leaves_it_alone():
    narrow, wide = zoo("resmlp", 2), zoo("resmlp", 8, width=32)
    assert factor(narrow, wide) == factor(narrow, zoo("resmlp", 8))


def test_a_plan_says_the_law_and_its_option():
    def network(depth):
        return build("resmlp", depth=depth), example_inputs("resmlp")

    plan = plan_transfer(Tuned(network(2), 0.8), network(8), optimizer="sgd", law=Structure("last"))
    assert "structure(residual=last)" in plan.law
    assert plan.lr == pytest.approx(0.2)


@settings(deadline=None, max_examples=30)
@given(
    stages=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=3),
    residual=st.sampled_from(["all", "last", "none"]),
)
def test_transfer_there_and_back_is_none_and_adam_never_keeps_more_than_sgd(stages, residual):
    base, target = made_up([[n] for n in (1, 2)]), made_up(stages)
    for optimizer in (SGD, ADAM):
        there = factor(base, target, optimizer, residual).lr
        back = factor(target, base, optimizer, residual).lr
        assert there * back == pytest.approx(1.0)
        assert math.isfinite(there)
    single = made_up([[1]])
    rates = [factor(single, target, optimizer, residual).lr for optimizer in (SGD, ADAM)]
    assert rates[1] <= rates[0] * (1 + 1e-12)


def made_up(stages):
    """Stem, streams with branches of so many layers, head."""
    report = DepthReport(3, (), 3, 2, 3, 1, (1, 3, 9, 27), 3, 1, (1, 3, 9, 27))
    end = ParamInfo("end", (6, 6), "input", 6, 6, layer_type="linear")
    weights = [
        ParamInfo(
            f"{s}.{b}.{n}",
            (6, 6),
            "hidden",
            6,
            6,
            layer_type="linear",
            stream=s,
            stream_additions=len(stage),
            branch=b,
            branch_position=n,
            branch_length=length,
            branch_last=n == length - 1,
        )
        for s, stage in enumerate(stages)
        for b, length in enumerate(stage)
        for n in range(length)
    ]
    return Architecture(report, (end, *weights, replace(end, role="output")))


@pytest.mark.parametrize(
    ("residual", "powers"), [("all", (1, 1)), ("last", (0, 1)), ("none", (0, 0))]
)
@pytest.mark.parametrize("stage", [[1], [2], [3], [1, 2, 4]])
def test_the_named_initializations_are_powers_of_one_and_zero(residual, powers, stage):
    base, deep = branches(stage * 2), branches(stage * 5)
    inner, last = map(float, powers)
    for optimizer in (SGD, ADAM):
        named = factor(base, deep, optimizer, residual)
        case = TransferCase(base, deep, optimizer)
        info = deep.parameters[0]
        spelled = Structure("all", inner, last).factors(ParamPair(info, info), case)
        assert spelled == named
    assert Structure.with_powers(inner, last) == Structure(residual)


@pytest.mark.parametrize(
    ("layers", "inner", "last", "sgd", "adam"),
    [
        (1, 0.0, 1.0, -1.0, -1.0),  # its own power moves no other weight
        (2, 0.5, 0.5, -0.5, -0.75),
        (2, 0.25, 1.0, -0.75, -0.875),
        (3, 0.5, 1.0, 0.0, -0.5),  # the first: 0.5 + 1; the last: 0.5 + 0.5
        (4, 0.25, 0.5, -0.25, -0.625),
        (2, -0.5, -0.5, -1.5, -1.25),  # weights that grow with K
    ],
)
def test_real_powers_by_hand(layers, inner, last, sgd, adam):
    base, deep = branches([layers] * 2), branches([layers] * 8)
    law = Structure.with_powers(inner, last)
    for optimizer, exponent in ((SGD, sgd), (ADAM, adam)):
        assert law.exponent(base, optimizer=optimizer) == pytest.approx(exponent)
        case = TransferCase(base, deep, optimizer)
        found = law.factors(ParamPair(deep.parameters[0], deep.parameters[0]), case).lr
        assert found == pytest.approx(4**exponent)


def test_powers_say_what_initialize_is_nearest_and_are_kept_in_the_record():
    assert Structure.with_powers(0.1, 0.9).residual == "last"
    assert Structure.with_powers(0.6, 0.9).residual == "all"
    assert Structure.with_powers(0.1, 0.2).residual == "none"
    law = Structure.with_powers(0.1, 0.9)
    assert law.options == {"residual": "last", "inner": 0.1, "last": 0.9}
    assert Structure(**law.options) == law


@pytest.mark.parametrize("power", ["1", math.inf, math.nan, True])
def test_a_power_that_is_no_number_is_refused(power):
    for name in ("inner", "last"):
        with pytest.raises(LawError, match=name):
            Structure(**{name: power})
