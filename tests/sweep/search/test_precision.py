"""Intervals of a minimum from three points."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from etastar.fit import find_optimum
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.sweep.search.precision import half_width, minima

LOG_LRS = np.log([0.1, 0.16, 0.3])


@given(hnp.arrays(np.float64, (3,), elements=st.one_of(st.floats(-5, 5), st.just(math.inf))))
def test_minima_are_those_of_find_optimum(curve):
    if not np.isfinite(curve).any():
        return
    expected = find_optimum(np.exp(LOG_LRS), curve).lr
    if np.ptp(curve[np.isfinite(curve)]) < 1e-6:
        return  # both are at the mercy of rounding
    assert math.exp(minima(LOG_LRS, curve[None])[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("confidence", [0.2, 0.5])
def test_it_is_never_narrower_than_the_bootstrap_over_seeds(confidence):
    for salt in range(4):
        losses = np.random.default_rng(salt).normal(0, 0.2, (3, 6)) + np.array([[1], [0], [1]])
        draws = resampled_seeds(6, num_resamples=1000, seed=0)
        found = [math.log(find_optimum(np.exp(LOG_LRS), losses[:, d].mean(1)).lr) for d in draws]
        low, high = percentile_interval(np.array(found), confidence)
        width = half_width(LOG_LRS, losses, confidence=confidence)
        assert width >= (high - low) / 2 - 1e-9


def test_few_seeds_that_agree_by_chance_do_not_count_as_precise():
    # the vertices of both seeds are at 0, the heights of their points are not the same
    losses = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]])
    x = np.array([-1.0, 0.0, 1.0])
    scatter = losses - losses.mean(1, keepdims=True) - losses.mean(0) + losses.mean()
    variance = (scatter**2).sum() / 2
    # d vertex / d outer heights = -+ 1 / (4 curvature), and none at the middle
    expected = stats.t.ppf(0.975, 2) * math.sqrt(2 * (1 / (4 * 1.5)) ** 2 * variance / 2)
    assert half_width(x, losses, confidence=0.95) == pytest.approx(expected, rel=0.04)


def test_the_parabolas_own_width_is_that_of_many_draws():
    x, heights = np.array([-0.4, 0.0, 0.6]), np.array([0.3, 0.0, 0.2])
    rng = np.random.default_rng(1)
    draws = heights[:, None, None] + rng.normal(0, 0.002, (3, 4000, 3))
    spread = float(np.std(minima(x, draws.mean(2).T)))
    widths = [half_width(x, draws[:, i], confidence=0.6827) for i in range(300)]
    expected = stats.t.ppf(0.84135, 4) * spread
    assert math.sqrt(np.mean(np.square(widths))) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e307])
def test_the_unit_of_the_loss_does_not_matter(scale):
    losses = np.array([[1.0, 1.3], [0.0, 0.1], [1.0, 0.9]])
    width = half_width(LOG_LRS, losses * scale, confidence=0.95)
    assert width == pytest.approx(half_width(LOG_LRS, losses, confidence=0.95))
    assert width > 0


def test_a_diverged_point_leaves_the_bootstrap():
    losses = np.array([[1.0, 0.0], [0.0, 1.0], [math.inf, 2.0]])
    width = half_width(LOG_LRS, losses, confidence=0.95)
    assert width == pytest.approx((LOG_LRS[1] - LOG_LRS[0]) / 2)
