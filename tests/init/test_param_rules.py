import pytest
import torch

from etastar.init.edge_of_chaos import critical_point
from etastar.init.gains import InputActivation
from etastar.init.param_rules import weight_rule
from etastar.init.schemes import InitSettings
from etastar.parameter import ParamInfo

RELU = InputActivation(0.5, torch.relu)
TANH = InputActivation(0.394, torch.tanh)
GATED = InputActivation(0.355, None)
UNKNOWN = InputActivation(1.0, None, problem="it joins 3 independent tensors")


def weight(*, fan_in=8, role="hidden", k=0, last=False, fan=0):
    stream = 0 if k else None
    return ParamInfo(
        "w", (4, fan_in), role, fan_in, 4, stream=stream, stream_additions=k, branch_last=last,
        branch_fan=fan,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("info", "options", "variance"),
    [
        (weight(), {}, 2 / 8),
        (weight(k=5), {}, 2 / 8 / 5),
        (weight(k=5), {"residual": "last"}, 2 / 8),
        (weight(k=5, last=True), {"residual": "last"}, 2 / 8 / 5),
        (weight(k=5, last=True), {"residual": "none"}, 2 / 8),
        (weight(k=5, last=True, fan=2), {"scheme": "in-degree"}, 2 / 8 / 5 / 2),
        (weight(k=5, fan=2), {"scheme": "in-degree"}, 2 / 8 / 5),
        (weight(last=True, fan=3), {"scheme": "in-degree"}, 2 / 8 / 3),
        (weight(last=True, fan=3), {}, 2 / 8),
        (weight(k=5, last=True, fan=2), {"scheme": "in-degree", "residual": "none"}, 2 / 8 / 2),
        (weight(role="output"), {}, 2 / 8),
        (weight(role="output"), {"readout": "mup"}, 1 / 64),
        (weight(role="output"), {"readout": "zero"}, 0),
        (weight(role="input"), {"readout": "mup"}, 2 / 8),
        (weight(k=5), {"scheme": "edge-of-chaos"}, 2 / 8 / 5),
    ],
)
def test_variance_of_a_weight(info, options, variance):
    point = critical_point(torch.relu) if "edge-of-chaos" in options.values() else None
    found = weight_rule(info, RELU, InitSettings(**options), point=point)
    assert (found.std or 0.0) ** 2 == pytest.approx(variance, rel=1e-9)
    assert found.gain * found.factor / found.fan_in == pytest.approx(variance, rel=1e-9)


def test_the_edge_of_chaos_of_tanh_is_one_not_the_he_gain():
    settings, point = InitSettings(scheme="edge-of-chaos"), critical_point(torch.tanh)
    found = weight_rule(weight(), TANH, settings, point=point)
    assert found.gain == pytest.approx(1, rel=1e-6)
    assert weight_rule(weight(), TANH, InitSettings()).gain == pytest.approx(2.538, rel=1e-3)


def test_the_edge_of_chaos_of_a_gated_unit_falls_back_and_says_so():
    found = weight_rule(weight(), GATED, InitSettings(scheme="edge-of-chaos"))
    assert found.gain == pytest.approx(1 / 0.355)
    assert "no critical point" in found.why


def test_a_layer_without_activation_has_variance_one_on_the_edge_of_chaos():
    plain = InputActivation(1.0, lambda x: x)
    settings = InitSettings(scheme="edge-of-chaos")
    assert weight_rule(weight(), plain, settings).gain == 1


@pytest.mark.parametrize("scheme", ["he", "in-degree", "edge-of-chaos"])
def test_an_unmeasured_activation_is_said_to_be_one(scheme):
    found = weight_rule(weight(), UNKNOWN, InitSettings(scheme=scheme))
    assert found.gain == 1
    assert "not measured, it joins 3" in found.why


def test_a_stream_of_one_addition_is_not_scaled():
    found = weight_rule(weight(k=1), RELU, InitSettings())
    assert (found.factor, found.why) == (1.0, "gain 2")


def test_the_reasons_name_both_factors():
    found = weight_rule(weight(k=5, last=True, fan=2), RELU, InitSettings(scheme="in-degree"))
    assert (found.factor, found.why) == (0.1, "gain 2, residual 1/5, in-degree 1/2")
