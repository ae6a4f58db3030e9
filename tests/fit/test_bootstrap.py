"""Resampling of seeds and intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from etastar.fit.bootstrap import (
    percentile_interval,
    resampled_seeds,
    scatter_at_rates,
    student_quantile,
    widened_interval,
)


def test_draws_are_with_replacement_and_the_same_again():
    draws = resampled_seeds(4, num_resamples=5000)
    assert np.array_equal(draws, resampled_seeds(4, num_resamples=5000))
    # each of 4 seeds is drawn 20,000 / 4 times give or take sqrt(20,000 * 3 / 16) = 61
    assert np.abs(np.bincount(draws.ravel(), minlength=4) - 5000).max() < 5 * 61
    assert any(len(set(row)) < 4 for row in draws.tolist())


def test_the_interval_of_the_first_hundred_numbers():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert percentile_interval(values) == (3.0, 98.0)


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9) | st.just(np.inf), min_size=1))
def test_the_ends_are_values_in_order_also_with_infinities(values):
    low, high = percentile_interval(np.array(values))
    assert low in values
    assert high in values
    assert low <= high


@pytest.mark.parametrize("probability", [0.7, 0.9, 0.975])
@pytest.mark.parametrize(("freedom", "error"), [(1, 1e-9), (2, 0.035), (4, 0.01), (30, 1e-4)])
def test_the_quantile_is_students(probability, freedom, error):
    expected = stats.t.ppf(probability, freedom)
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=error)


def test_the_scatter_is_that_of_the_noise_whatever_the_seeds_levels():
    rng = np.random.default_rng(0)
    noise = np.array([0.1, 0.2, 0.1, 0.4, 0.1])[:, None] * rng.standard_normal((4000, 5, 3))
    losses = noise + 10 * rng.standard_normal((4000, 1, 3))
    found = np.array([scatter_at_rates(one) ** 2 for one in losses]).mean(0) ** 0.5
    # what the median of the others leaves is shared out among the rates
    assert found == pytest.approx([0.12, 0.23, 0.12, 0.44, 0.12], rel=0.15)
    assert scatter_at_rates(np.array([[1.0, 2.0]])).tolist() == [0.0]


def test_a_rate_at_the_brink_leaves_the_scatter_of_the_others():
    calm = np.array([[0.60, 0.61], [0.50, 0.51], [0.45, 0.47]])
    wild = np.array([*calm, [3.0, 9.0]])
    assert scatter_at_rates(wild)[:3].max() < 0.01
    assert scatter_at_rates(wild)[3] == pytest.approx(6 / 2**0.5 * (4 / 3) ** 0.5, rel=0.01)


@settings(deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=1), st.integers(1, 40))
def test_widening_moves_no_end_inwards_and_less_with_more_freedom(values, freedom):
    values = np.array(values)
    plain = percentile_interval(values)
    assert widened_interval(values, freedom=0) == plain
    low, high = widened_interval(values, freedom=freedom)
    assert low <= plain[0] <= plain[1] <= high
    tighter = widened_interval(values, freedom=freedom + 1)
    assert low <= tighter[0] + 1e-9
    assert tighter[1] <= high + 1e-9
