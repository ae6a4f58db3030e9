import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.init.gains import gaussian_rule, second_moment
from tests.init.drawing import slow_expectation


def gain(activation):
    return 1 / second_moment(activation)


@pytest.mark.parametrize(
    ("power", "moment"), [(0, 1), (1, 0), (2, 1), (3, 0), (4, 3), (6, 15), (8, 105)]
)
@pytest.mark.parametrize("num_variables", [1, 2])
def test_the_rule_gives_the_moments_of_the_normal_distribution(power, moment, num_variables):
    points, weights = gaussian_rule(num_variables)
    assert float(weights @ points**power) == pytest.approx(moment, abs=1e-9)


def test_gain_of_the_identity_is_one():
    assert gain(lambda x: x) == pytest.approx(1, abs=1e-12)


def test_gain_of_relu_is_two():
    assert gain(torch.relu) == pytest.approx(2, abs=1e-10)


@given(slope=st.floats(-3, 3))
@settings(deadline=None, max_examples=30)
def test_gain_of_leaky_relu_is_the_closed_form(slope):
    assert gain(lambda x: F.leaky_relu(x, slope)) == pytest.approx(2 / (1 + slope**2), rel=1e-10)


def test_gain_of_gelu_is_the_closed_form():
    # E[z^2 Phi(z)^2] by parts, from E[Phi^2] = 1/3 and two Gaussian integrals
    moment = 1 / 3 + 1 / (2 * math.pi * math.sqrt(3))
    assert second_moment(F.gelu) == pytest.approx(moment, abs=1e-12)


def test_gain_of_the_absolute_value_and_the_step_are_the_closed_forms():
    assert gain(torch.abs) == pytest.approx(1, abs=1e-12)
    assert gain(lambda x: (x > 0).double()) == pytest.approx(2, abs=1e-10)


@pytest.mark.parametrize(
    "activation",
    [torch.tanh, F.silu, F.gelu, F.mish, F.elu, F.selu, F.softplus, torch.sigmoid, F.hardswish],
)
def test_second_moments_agree_with_a_slow_integral(activation):
    assert second_moment(activation) == pytest.approx(
        slow_expectation(lambda z: activation(z) ** 2), abs=1e-9
    )


@pytest.mark.parametrize("variance", [0.01, 0.5, 4.0])
def test_second_moments_scale_with_the_variance(variance):
    assert second_moment(torch.relu, variance=variance) == pytest.approx(variance / 2)
    assert second_moment(torch.tanh, variance=variance) == pytest.approx(
        slow_expectation(lambda z: torch.tanh(math.sqrt(variance) * z) ** 2), abs=1e-9
    )
