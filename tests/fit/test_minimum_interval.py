"""The interval of a minimum: what it holds, how wide it is, and its closed form."""

from math import inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from etastar.fit import minimum_interval as room
from etastar.fit.minimum_interval import minimum_interval

OCTAVE = log(2)
GRID = OCTAVE * np.arange(-4.0, 5.0)


def steep(x):
    return 2 * (np.expm1(4 * x) - 4 * x) / 16


CURVES = {
    "parabola": np.square,
    "steep": steep,
    "flat": lambda x: x**4,
    "outside of the shapes": lambda x: np.where(x > 0, 5, 1) * np.abs(x) ** 2.5,
}


def ends(curve, rng, *, num_seeds, noise, step=OCTAVE, smooth=0.0):
    """The interval about a minimum at 0 that lies anywhere between two rates."""
    x = step * (
        np.arange(-np.ceil(1.6 / step) - 1, np.ceil(1.6 / step) + 2) + rng.uniform(-0.5, 0.5)
    )
    apart = np.abs(np.subtract.outer(x, x))
    covariance = (1 - smooth) * np.eye(len(x)) + smooth * np.exp(-apart / 0.3)
    own = np.linalg.cholesky(covariance) @ rng.standard_normal((len(x), num_seeds))
    rise = curve(np.array([log(2)]))[0]
    return minimum_interval(
        x, curve(x)[:, None] + rise * (noise * own + rng.standard_normal(num_seeds))
    )


@pytest.mark.parametrize("num_seeds", [2, 8])
@pytest.mark.parametrize("curve", CURVES)
def test_it_holds_the_minimum_between_the_rates_and_is_narrower_than_they(curve, num_seeds):
    rng = np.random.default_rng(num_seeds)
    found = np.array([ends(CURVES[curve], rng, num_seeds=num_seeds, noise=0.02) for _ in range(60)])
    assert np.mean((found[:, 0] <= 0) & (found[:, 1] >= 0)) >= 0.85
    assert np.median(found[:, 1] - found[:, 0]) < 1.1 * OCTAVE


def test_noise_that_neighbouring_rates_share_widens_it():
    rng = np.random.default_rng(0)
    settings_ = {"num_seeds": 4, "noise": 0.3, "step": log(1.1)}
    found = np.array([ends(np.square, rng, smooth=0.9, **settings_) for _ in range(60)])
    alone = np.array([ends(np.square, rng, **settings_) for _ in range(60)])
    assert np.mean((found[:, 0] <= 0) & (found[:, 1] >= 0)) >= 0.85
    widths = [np.median(one[:, 1] - one[:, 0]) for one in (found, alone)]
    assert widths[1] < widths[0] < log(5)


def test_a_flat_curve_leaves_all_rates():
    for losses in (np.ones((9, 3)), np.ones((9, 1)) + np.array([0.0, 0.5, 2.0])):
        assert minimum_interval(GRID, losses) == (GRID[0], GRID[-1])


def test_two_rates_that_tie_leave_more_than_the_place_between_them():
    low, high = minimum_interval(GRID[:4], np.array([[1.0, 0.5, 0.5, 1.0]] * 2).T)
    assert GRID[1] < low < (GRID[1] + GRID[2]) / 2 - 0.02
    assert high == pytest.approx(GRID[1] + GRID[2] - low, abs=0.02)


def test_it_ends_at_a_diverged_rate_and_at_the_range():
    losses = np.repeat((GRID - 0.1)[:, None] ** 2, 2, axis=1)
    losses[6:, 1] = inf
    assert minimum_interval(GRID, losses)[1] < GRID[6]
    losses[5:] = inf
    low, high = minimum_interval(GRID, losses)
    assert low <= 0.1 <= high <= GRID[5]
    losses[:4], losses[5:] = inf, inf
    assert minimum_interval(GRID, losses) == (GRID[3], GRID[5])
    rising = np.repeat(GRID[:, None], 2, axis=1)
    assert minimum_interval(GRID, rising)[0] == GRID[0]


def test_two_more_rates_narrow_what_three_leave():
    x = log(1.6) * np.arange(-2.0, 3.0)
    losses = np.repeat(steep(x - 0.1)[:, None], 2, axis=1)
    (low, high), (near, far) = minimum_interval(x[1:4], losses[1:4]), minimum_interval(x, losses)
    assert low <= 0.1 <= high
    assert near <= 0.1 <= far
    assert (far - near) < 0.8 * (high - low)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1e-9, 0.25, 1e6]), st.floats(-3, 3))
def test_units_of_rate_and_loss_do_not_matter(seed, gain, shift):
    rng = np.random.default_rng(seed)
    losses = (GRID**2)[:, None] + 0.1 * rng.standard_normal((9, 3))
    base = minimum_interval(GRID, losses)
    moved = minimum_interval(GRID + shift, gain * losses)
    assert moved == pytest.approx([end + shift for end in base], abs=1e-6)


def test_losses_of_any_size_give_an_interval():
    for losses in ([[1.5, 1.0], [0.5, 0.7], [1.0, 1.3]], [[0.5, 0.6], [0.4, 0.5], [1e20, 1e20]]):
        low, high = minimum_interval(GRID[:3], 1e280 * np.array(losses))
        assert GRID[0] <= low < high <= GRID[2]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(5, 9))
def test_the_misfit_is_that_of_non_negative_least_squares(seed, num_lrs):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-2, 2, num_lrs))
    rises, whiten = rng.uniform(0, 3, num_lrs), np.diag(rng.uniform(0.5, 3, num_lrs))
    shapes = room._shapes(x - 0.1)
    constant = np.ones(num_lrs)
    bases = [shapes[1] + ratio * shapes[2] for ratio in room._RATIOS]
    expected = min(
        nnls(whiten @ np.stack([constant, -constant, base, one], 1), whiten @ rises)[1] ** 2
        for one in shapes
        for base in bases
    )
    found = room._misfit(shapes[:, None, :], rises, whiten)
    assert found == pytest.approx([expected], rel=1e-6, abs=1e-9)
