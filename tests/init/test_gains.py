import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.errors import InitError
from etastar.init.gains import (
    critical_point,
    gaussian_rule,
    second_moment,
    slope_second_moment,
)


def gain(activation):
    return 1 / second_moment(activation)


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


def test_relu_is_critical_at_two_for_every_variance():
    point = critical_point(torch.relu)
    assert point.weight_variance == pytest.approx(2, abs=1e-10)
    assert point.fixed_point == 1


def test_the_identity_is_critical_at_one():
    assert critical_point(lambda x: x).weight_variance == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize(
    ("activation", "slope_at_zero"),
    [(torch.tanh, 1), (torch.sin, 1), (torch.erf, None)],
)
def test_odd_activations_without_bias_are_critical_where_the_variance_vanishes(
    activation, slope_at_zero
):
    slope = slope_at_zero or 2 / math.sqrt(math.pi)
    point = critical_point(activation)
    assert point.fixed_point == 0
    assert point.weight_variance == pytest.approx(1 / slope**2, rel=1e-6)


@pytest.mark.parametrize(
    ("activation", "bias_variance"),
    [(torch.tanh, 0.05), (torch.tanh, 1.0), (F.gelu, 0.2), (torch.sigmoid, 0.0)],
)
def test_the_point_solves_both_equations(activation, bias_variance):
    point = critical_point(activation, bias_variance=bias_variance)
    q = point.fixed_point
    assert q > 0
    assert point.weight_variance * slope_second_moment(activation, variance=q) == pytest.approx(1)
    mapped = point.weight_variance * second_moment(activation, variance=q) + bias_variance
    assert mapped == pytest.approx(q, rel=1e-8)


def test_the_variance_map_iterated_from_afar_reaches_the_fixed_point():
    point, q = critical_point(torch.tanh, bias_variance=0.2), 5.0
    for _ in range(2000):
        q = point.weight_variance * second_moment(torch.tanh, variance=q) + point.bias_variance
    assert q == pytest.approx(point.fixed_point, rel=1e-6)


@pytest.mark.parametrize(
    ("activation", "bias_variance"),
    [(torch.relu, 0.1), (F.softplus, 0.0), (F.gelu, 0.0), (F.silu, 0.0), (F.gelu, 0.01)],
)
def test_a_point_that_does_not_exist_or_repels_is_refused(activation, bias_variance):
    with pytest.raises(InitError, match="without a stable critical point"):
        critical_point(activation, bias_variance=bias_variance)


def test_a_constant_has_no_critical_point():
    with pytest.raises(InitError):
        critical_point(torch.ones_like)
