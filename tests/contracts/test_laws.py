"""What every registered law owes: nothing at base size, purity, positive factors, plain options."""

import dataclasses
import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.depth import DepthReport
from etastar.laws import (
    LAWS,
    Architecture,
    EffectiveDepth,
    Factors,
    ParamPair,
    PathSum,
    TransferCase,
    Width,
    get_laws,
)
from etastar.optimizers import optimizer_kind, optimizer_like
from etastar.parameter import ParamInfo

OPTIMIZERS = [
    optimizer_kind("sgd"),
    optimizer_kind("adam"),
    optimizer_kind("adamw"),
    optimizer_kind("muon"),
    optimizer_kind("adafactor"),
    optimizer_like(torch.optim.Adagrad, "adam", decoupled_weight_decay=False),
]
EVERY_LAW = [*(law() for law in LAWS.values()), EffectiveDepth(count="layers"), Width()]


def residual_network(blocks: int, width: int, kernel: int = 3) -> Architecture:
    """Stem, blocks x + conv(x), head; moments of x (x + x^2)^blocks x with layers alone counted."""
    taps = kernel**2
    stem = ParamInfo("stem.weight", (width, 3, 3, 3), "input", 27, 9 * width)
    head = ParamInfo("head.weight", (10, width), "output", width, 10, layer_type="linear")
    branches = [
        info
        for i in range(blocks)
        for info in (
            ParamInfo(
                f"blocks.{i}.weight",
                (width, width, kernel, kernel),
                "hidden",
                width * taps,
                width * taps,
                layer_type="convolution",
                kernel_size=(kernel, kernel),
                stream=0,
                stream_additions=blocks,
                branch=i,
                branch_scale=True,
            ),
            ParamInfo(
                f"blocks.{i}.bias",
                (width,),
                "bias",
                1,
                width,
                stream=0,
                stream_additions=blocks,
                branch=i,
                branch_scale=True,
            ),
        )
    ]
    layers = [math.comb(blocks, k) for k in range(blocks + 1)]
    moments = tuple(sum(n * (k + 2) ** p for k, n in enumerate(layers)) for p in range(4))
    report = DepthReport(
        effective_depth=blocks + 2,
        path=(),
        longest_path=2 * blocks + 2,
        residual_additions=blocks,
        weight_layers=blocks + 2,
        path_count=2**blocks,
        path_length_moments=moments,
        layer_longest_path=blocks + 2,
        layer_path_length_moments=moments,
    )
    return Architecture(report, (stem, *branches, head))


def matrices(network: Architecture) -> Architecture:
    """The same network with linear layers in place of convolutions, hidden matrices alone."""
    hidden = [p for p in network.parameters if p.role == "hidden"]
    width = hidden[0].shape[0]
    plain = {"shape": (width, width), "fan_in": width, "fan_out": width, "kernel_size": ()}
    return Architecture(network.report, tuple(dataclasses.replace(p, **plain) for p in hidden))


def all_factors(law, base, target, optimizer):
    if optimizer.update == "muon":
        base, target = matrices(base), matrices(target)
    pairs = [
        ParamPair(
            next(b for b in base.parameters if b.role == info.role),
            info,
        )
        for info in target.parameters
    ]
    return [law.factors(p, TransferCase(base, target, optimizer)) for p in pairs]


def assert_close(ours, theirs):
    for name, value in dataclasses.asdict(ours).items():
        assert value == pytest.approx(getattr(theirs, name), rel=1e-9), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.name)
@pytest.mark.parametrize("law", EVERY_LAW, ids=lambda law: law.name)
class TestEveryLaw:
    def test_changes_nothing_at_base_size(self, law, optimizer):
        network = residual_network(4, 16)
        assert set(all_factors(law, network, network, optimizer)) <= {Factors()}

    def test_gives_the_same_answer_twice(self, law, optimizer):
        networks = residual_network(2, 8), residual_network(9, 32)
        assert all_factors(law, *networks, optimizer) == all_factors(law, *networks, optimizer)

    @settings(deadline=None, max_examples=8)
    @given(sizes=st.tuples(*[st.integers(1, 60)] * 2, *[st.integers(1, 512)] * 2))
    def test_factors_are_positive_and_finite(self, law, optimizer, sizes):
        base = residual_network(sizes[0], sizes[2])
        target = residual_network(sizes[1], sizes[3])
        for factors in all_factors(law, base, target, optimizer):
            numbers = (factors.lr, factors.multiplier, factors.init, factors.eps)
            assert all(math.isfinite(n) and n > 0 for n in (*numbers, factors.weight_decay))

    @settings(deadline=None, max_examples=8)
    @given(sizes=st.tuples(*[st.integers(1, 40)] * 3, *[st.integers(1, 128)] * 3))
    def test_two_transfers_in_a_row_are_one(self, law, optimizer, sizes):
        small, middle, large = (
            residual_network(depth, width)
            for depth, width in zip(sizes[:3], sizes[3:], strict=True)
        )
        first = all_factors(law, small, middle, optimizer)
        second = all_factors(law, middle, large, optimizer)
        direct = all_factors(law, small, large, optimizer)
        # stem, first branch, its bias, head: the networks differ in the number of blocks
        for place in (0, -1) if optimizer.update == "muon" else (0, 1, 2, -1):
            assert_close(first[place] * second[place], direct[place])

    def test_options_are_plain_data(self, law, optimizer):
        assert json.loads(json.dumps(law.options)) == law.options
        assert type(law)(**law.options) == law

    def test_is_frozen_and_hashable(self, law, optimizer):
        assert hash(law) == hash(type(law)(**law.options))
        with pytest.raises(AttributeError):
            law.name_of_something_new = 1


@pytest.mark.parametrize("name", LAWS)
def test_registry_name_is_the_laws_own(name):
    assert [law.name for law in get_laws(name)] == [name]


@pytest.mark.parametrize(
    "law", [EffectiveDepth(), PathSum(), EffectiveDepth(count="layers")], ids=repr
)
def test_learning_rate_falls_as_depth_grows(law):
    optimizer = optimizer_kind("sgd")
    networks = [residual_network(depth, 8) for depth in (1, 2, 5, 20, 100)]
    rates = [all_factors(law, networks[0], n, optimizer)[0].lr for n in networks]
    assert all(a > b for a, b in itertools.pairwise(rates))
