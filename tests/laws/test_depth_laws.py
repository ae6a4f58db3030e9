"""Each depth law against the numbers of its formula."""

import math
from dataclasses import replace

import pytest

from etastar.depth import DepthReport
from etastar.errors import LawError
from etastar.laws import (
    Architecture,
    CompleteP,
    Constant,
    DepthMuP,
    EffectiveDepth,
    Factors,
    ParamPair,
    PathSum,
    TransferCase,
)
from etastar.optimizers import optimizer_kind
from etastar.parameter import ParamInfo

SGD, ADAM, ADAMW, MUON = (optimizer_kind(n) for n in ("sgd", "adam", "adamw", "muon"))


def architecture(depth=2, *, longest=2, third_moment=8):
    moments = (1, longest, longest**2, third_moment)
    report = DepthReport(depth, (), longest, 0, longest, 1, moments, longest, moments)
    return Architecture(report, ())


def branch_pair(base_additions, additions, **changes):
    info = ParamInfo(
        "blocks.0.weight",
        (8, 8),
        "hidden",
        8,
        8,
        stream=0,
        stream_additions=additions,
        branch=0,
        branch_scale=True,
    )
    info = replace(info, **changes)
    return ParamPair(replace(info, stream_additions=base_additions), info)


OUTSIDE = ParamPair(*[ParamInfo("stem.weight", (8, 3), "input", 3, 8)] * 2)


def factors(law, pair=OUTSIDE, *, base=None, target=None, optimizer=SGD):
    base, target = base or architecture(), target or architecture()
    return law.factors(pair, TransferCase(base, target, optimizer))


@pytest.mark.parametrize(("exponent", "expected"), [(-1.5, 1 / 8), (-1.0, 1 / 4), (0.0, 1.0)])
def test_effective_depth_is_a_power_of_the_minimum(exponent, expected):
    deep = architecture(8, longest=77)
    assert factors(EffectiveDepth(exponent), target=deep) == Factors(lr=expected)


def test_the_count_of_layers_is_a_power_of_the_longest_path():
    deep = architecture(77, longest=8)
    assert factors(EffectiveDepth(count="layers"), target=deep) == Factors(lr=1 / 8)


def test_path_sum_is_the_inverse_root_of_the_third_moment():
    deep = architecture(third_moment=8 * 16)
    assert factors(PathSum(), target=deep).lr == pytest.approx(1 / 4)


def test_path_sum_takes_moments_beyond_the_range_of_floats():
    base, deep = architecture(third_moment=10**400), architecture(third_moment=4 * 10**400)
    assert factors(PathSum(), base=base, target=deep).lr == pytest.approx(1 / 2)


def test_path_sum_that_underflows_is_an_error():
    with pytest.raises(LawError, match="positive finite"):
        factors(PathSum(), target=architecture(third_moment=10**800))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_path_sum_divides_by_the_side_of_the_kernel(dimensions):
    def convolution(side):
        kernel = (side,) * dimensions
        fan = 8 * side**dimensions
        return ParamInfo("c.weight", (8, 8, *kernel), "hidden", fan, fan, kernel_size=kernel)

    pair = ParamPair(convolution(3), convolution(9))
    assert factors(PathSum(), pair).lr == pytest.approx(1 / 3)


def test_constant_is_one():
    assert factors(Constant(), target=architecture(50)) == Factors()


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (SGD, Factors(multiplier=0.5)),
        (ADAM, Factors(multiplier=0.5, lr=0.5)),
        (ADAMW, Factors(multiplier=0.5, lr=0.5, weight_decay=2.0)),
        (MUON, Factors(multiplier=0.5, lr=0.5, weight_decay=2.0)),
    ],
)
def test_depth_mup_takes_the_root_of_the_stream(optimizer, expected):
    assert factors(DepthMuP(), branch_pair(2, 8), optimizer=optimizer) == expected


@pytest.mark.parametrize(
    ("alpha", "optimizer", "expected"),
    [
        (1.0, ADAM, Factors(multiplier=0.25, eps=0.25)),
        (1.0, ADAMW, Factors(multiplier=0.25, eps=0.25)),
        (1.0, SGD, Factors(multiplier=0.25, lr=4.0)),
        (0.5, ADAM, Factors(multiplier=0.5, lr=0.5, eps=0.5)),
        (0.5, ADAMW, Factors(multiplier=0.5, lr=0.5, eps=0.5)),
        (0.5, MUON, Factors(multiplier=0.5, lr=0.5, eps=0.5)),
        (0.5, SGD, Factors(multiplier=0.5)),
    ],
)
def test_complete_p_follows_its_table(alpha, optimizer, expected):
    assert factors(CompleteP(alpha), branch_pair(2, 8), optimizer=optimizer) == expected


def test_complete_p_leaves_width_alone():
    wide = branch_pair(2, 2)
    wide = ParamPair(replace(wide.base, shape=(4, 4), fan_in=4), wide.target)
    assert factors(CompleteP(), wide, optimizer=ADAM) == Factors()


@pytest.mark.parametrize("law", [DepthMuP(), CompleteP()])
@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW])
class TestBranchLaws:
    def test_multiplier_sits_on_the_last_layer_alone(self, law, optimizer):
        inner = branch_pair(2, 8, branch_scale=False)
        last = branch_pair(2, 8)
        found = factors(law, inner, optimizer=optimizer)
        assert found.multiplier == 1.0
        assert found.lr == factors(law, last, optimizer=optimizer).lr

    def test_outside_of_branches_nothing_changes(self, law, optimizer):
        assert factors(law, target=architecture(50), optimizer=optimizer) == Factors()

    def test_base_without_a_stream_is_an_error(self, law, optimizer):
        with pytest.raises(LawError, match=r"blocks\.0\.weight"):
            factors(law, branch_pair(0, 8), optimizer=optimizer)


@pytest.mark.parametrize("exponent", [math.nan, math.inf, "-1", None, True])
def test_bad_exponent_is_refused(exponent):
    with pytest.raises(LawError, match="exponent"):
        EffectiveDepth(exponent=exponent)


@pytest.mark.parametrize("count", ["all", "", None, 3])
def test_bad_count_is_refused(count):
    with pytest.raises(LawError, match="count"):
        EffectiveDepth(count=count)


def test_branch_laws_alone_want_branches_without_one_over_k():
    wanted = {law.name: law.residual for law in (DepthMuP(), CompleteP(), EffectiveDepth())}
    assert wanted == {"depth-mup": "none", "complete-p": "none", "effective-depth": "all"}


@pytest.mark.parametrize("alpha", [0.49, -1.0, math.nan, "1", True])
def test_bad_alpha_is_refused(alpha):
    with pytest.raises(LawError, match="alpha"):
        CompleteP(alpha=alpha)


@pytest.mark.parametrize("law", [EffectiveDepth(), EffectiveDepth(count="layers"), PathSum()])
def test_decoupled_decay_keeps_rate_times_decay(law):
    deep = architecture(8, longest=8, third_moment=512)
    found = factors(law, target=deep, optimizer=ADAMW)
    assert found.lr * found.weight_decay == pytest.approx(1.0)
    assert factors(law, target=deep, optimizer=ADAM).weight_decay == 1.0
