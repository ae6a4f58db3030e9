import math

import pytest
import torch
import torch.nn.functional as F

from etastar.init.edge_of_chaos import critical_point, slope_second_moment
from etastar.init.gains import second_moment
from tests.init.drawing import slow_expectation


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
def test_a_point_that_does_not_exist_or_repels_is_none(activation, bias_variance):
    assert critical_point(activation, bias_variance=bias_variance) is None


def test_a_constant_has_no_critical_point():
    assert critical_point(torch.ones_like) is None
