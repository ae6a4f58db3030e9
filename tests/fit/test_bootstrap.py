"""Resampling of seeds and intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.errors import FitError
from etastar.fit.bootstrap import percentile_interval, require_bootstrap, resampled_seeds


def test_draws_are_with_replacement_and_repeat_with_the_seed():
    draws = resampled_seeds(4, num_resamples=5000, seed=1)
    assert np.array_equal(draws, resampled_seeds(4, num_resamples=5000, seed=1))
    assert not np.array_equal(draws, resampled_seeds(4, num_resamples=5000, seed=2))
    # each of 4 seeds is drawn 20,000 / 4 times give or take sqrt(20,000 * 3 / 16) = 61
    assert np.abs(np.bincount(draws.ravel(), minlength=4) - 5000).max() < 5 * 61
    assert any(len(set(row)) < 4 for row in draws.tolist())


@pytest.mark.parametrize(("confidence", "ends"), [(0.9, (5.0, 95.0)), (0.5, (25.0, 75.0))])
def test_the_interval_of_the_first_hundred_numbers(confidence, ends):
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert percentile_interval(values, confidence) == ends


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9) | st.just(np.inf), min_size=1), st.floats(0.01, 0.99))
def test_the_ends_are_values_in_order_also_with_infinities(values, confidence):
    low, high = percentile_interval(np.array(values), confidence)
    assert low in values
    assert high in values
    assert low <= high


@pytest.mark.parametrize("bad", [(0.0, 10), (1.0, 10), (float("nan"), 10), (0.9, 0)])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(FitError, match="confidence="):
        require_bootstrap(*bad)
