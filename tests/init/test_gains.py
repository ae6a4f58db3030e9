import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.errors import InitError
from etastar.init.gains import gain, second_moment, slope_second_moment
from etastar.init.quadrature import GaussianRule, gaussian_rule


def slow_expectation(function):
    """Trapezoid on a million points: another method, another code path."""
    z = torch.linspace(-14, 14, 1_400_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(function(z) * density, z))


@pytest.mark.parametrize(
    ("power", "moment"), [(0, 1), (1, 0), (2, 1), (3, 0), (4, 3), (6, 15), (8, 105)]
)
@pytest.mark.parametrize("num_variables", [1, 2])
def test_the_rule_gives_the_moments_of_the_normal_distribution(power, moment, num_variables):
    rule = gaussian_rule(num_variables)
    assert rule.mean(rule.points**power) == pytest.approx(moment, abs=1e-9)


def test_a_rule_with_more_points_changes_nothing():
    fine, usual = GaussianRule(order=40), gaussian_rule()
    for function in (F.gelu, torch.tanh, torch.relu):
        ours, theirs = (rule.mean(function(rule.points) ** 2) for rule in (usual, fine))
        assert ours == pytest.approx(theirs, abs=1e-12)


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


def test_slopes_agree_with_their_closed_forms():
    assert slope_second_moment(torch.relu) == pytest.approx(0.5, abs=1e-12)
    assert slope_second_moment(torch.tanh, variance=0.3) == pytest.approx(
        slow_expectation(lambda z: (1 - torch.tanh(math.sqrt(0.3) * z) ** 2) ** 2), abs=1e-9
    )
    assert slope_second_moment(lambda x: torch.ones_like(x)) == 0


def test_slopes_are_found_without_gradients_switched_on():
    with torch.no_grad():
        assert slope_second_moment(torch.sin) == pytest.approx((1 + math.exp(-2)) / 2, abs=1e-12)


@pytest.mark.parametrize(
    "activation",
    [lambda x: x.sum(), lambda x: 0 * x, lambda x: x / 0, lambda x: 3.0, torch.nn.Linear(1, 1)],
)
def test_what_has_no_gain_is_an_error(activation):
    with pytest.raises((InitError, RuntimeError)):
        gain(activation)


def test_the_error_names_the_shapes():
    with pytest.raises(InitError, match=r"maps shape \(864,\) to \(\)"):
        gain(lambda x: x.sum())
