"""Power laws: exact ones, weights, intervals, invariances."""

import json
from math import exp, inf, log, nan

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from etastar.errors import FitError
from etastar.fit import Optimum, find_optimum, fit_power_law

SIZES = np.array([4.0, 8.0, 16.0, 32.0])


def tuned(lrs, variances):
    """Optima whose log lr has that variance."""
    reach = np.exp(1.959964 * np.sqrt(variances))
    return [between(lr, (lr / r, lr * r)) for lr, r in zip(lrs, reach, strict=True)]


def between(lr, ends):
    return Optimum(
        lr, 0.0, lr, "quadratic", at_edge=False, num_seeds=2, num_diverged=0, interval=ends
    )


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=6, unique=True),
    st.floats(-3, 3),
    st.floats(-10, 3),
)
def test_an_exact_power_law_is_found(sizes, exponent, intercept):
    lrs = np.exp(intercept) * np.array(sizes, dtype=float) ** exponent
    fit = fit_power_law(sizes, lrs)
    assert fit.exponent == pytest.approx(exponent, abs=1e-6)
    assert fit.intercept == pytest.approx(intercept, abs=1e-5)
    assert fit.predict(50.0) == pytest.approx(exp(intercept) * 50.0**exponent, rel=1e-5)
    assert fit.sizes == tuple(sizes)
    assert fit.lrs == tuple(lrs)


rates = st.lists(st.floats(-5, 5), min_size=4, max_size=4).map(lambda logs: np.exp(np.array(logs)))
variances = st.lists(st.floats(0.01, 10), min_size=4, max_size=4)


@settings(deadline=None)
@given(rates, variances, st.floats(0.01, 100), st.floats(0.1, 10))
def test_units_of_rate_and_size_change_the_intercept_alone(lrs, given_, rate_unit, size_unit):
    assume(np.ptp(np.log(lrs)) > 1e-3)  # of rates that differ by rounding, r^2 is rounding
    base = fit_power_law(SIZES, tuned(lrs, given_))
    other = fit_power_law(size_unit * SIZES, tuned(rate_unit * lrs, given_))
    assert other.exponent == pytest.approx(base.exponent, abs=1e-8)
    assert other.r_squared == pytest.approx(base.r_squared, abs=1e-6)
    assert other.exponent_interval == pytest.approx(base.exponent_interval, abs=1e-8)
    assert other.predict(size_unit * 64) == pytest.approx(rate_unit * base.predict(64), rel=1e-6)


@settings(deadline=None)
@given(rates, variances)
def test_the_weighted_line_is_numpys(lrs, given_):
    slope, intercept = np.polyfit(np.log(SIZES), np.log(lrs), 1, w=1 / np.sqrt(given_))
    fit = fit_power_law(SIZES, tuned(lrs, given_))
    assert (fit.exponent, fit.intercept) == pytest.approx((slope, intercept), abs=1e-8)


@settings(deadline=None)
@given(rates)
def test_r_squared_of_equal_weights_is_the_squared_correlation(lrs):
    fit = fit_power_law(SIZES, lrs)
    if np.ptp(np.log(lrs)) > 1e-3:
        r = np.corrcoef(np.log(SIZES), np.log(lrs))[0, 1]
        assert fit.r_squared == pytest.approx(r**2, abs=1e-8)


def test_r_squared_counts_a_point_of_weight_two_as_two_points():
    twice = fit_power_law([*SIZES, SIZES[1]], [1.0, 0.6, 0.1, 0.2, 0.6])
    weighted = fit_power_law(SIZES, tuned([1.0, 0.6, 0.1, 0.2], [2.0, 1.0, 2.0, 2.0]))
    assert weighted.r_squared == pytest.approx(twice.r_squared, rel=1e-12)
    assert 0.5 < weighted.r_squared < 0.99


def test_rates_that_do_not_depend_on_size_are_explained_whole():
    fit = fit_power_law(SIZES, [0.1] * 4)
    assert fit.exponent == pytest.approx(0.0, abs=1e-15)
    assert fit.r_squared == 1.0


def test_bare_rates_have_equal_weights_and_no_interval():
    fit = fit_power_law(SIZES, [1.0, 0.5, 0.3, 0.2])
    assert fit.weights == (0.25,) * 4
    assert (fit.exponent_interval, fit.edge_sizes) == (None, ())


def test_weights_are_inverse_variances_with_a_floor():
    fit = fit_power_law(SIZES, tuned([1.0] * 4, [0.0, 0.01, 0.02, 0.04]), variance_floor=0.005)
    assert fit.weights == pytest.approx(np.array([8, 4, 2, 1]) / 15)


def optimum_at(logs):
    grid = np.exp2(np.arange(-9.0, 3.0))
    losses = (np.log(grid)[:, None] - np.asarray(logs)) ** 2
    return find_optimum(grid, losses, num_resamples=2000)


@settings(deadline=None)
@given(rates, variances)
def test_the_interval_is_that_of_the_weighted_line(lrs, given_):
    fit = fit_power_law(SIZES, tuned(lrs, given_))
    design = np.stack([np.ones(4), np.log(SIZES)], 1)
    covariance = np.linalg.inv(design.T @ (design / np.array(given_)[:, None]))
    reach = 1.959964 * np.sqrt(covariance[1, 1])
    assert fit.exponent_interval == pytest.approx(
        (fit.exponent - reach, fit.exponent + reach), abs=1e-6
    )


def test_an_interval_to_one_side_moves_the_exponent_to_one_side():
    # the smaller size may be lower, the larger higher: both make the line rise
    optima = [between(1.0, (exp(-0.3), 1.0)), between(1.0, (1.0, exp(0.4)))]
    low, high = fit_power_law([1.0, exp(1)], optima).exponent_interval
    assert (low, high) == pytest.approx((0.0, 0.5), abs=1e-9)


def test_the_weights_are_of_the_optima_s_standard_errors():
    optima = [optimum_at([-1.0, -1.2]), optimum_at([-2.0, -2.4])]
    fit = fit_power_law([1.0, exp(1)], optima)
    assert fit.exponent == pytest.approx(-1.1)
    own = np.array([optimum.log_lr_sd for optimum in optima]) ** 2
    assert fit.weights == pytest.approx(1 / own / np.sum(1 / own))


def test_an_optimum_without_seeds_makes_all_weights_equal():
    optima = [optimum_at([-1.0, -1.2]), optimum_at([-2.0])]
    fit = fit_power_law([2.0, 4.0], optima)
    assert fit.weights == (0.5, 0.5)
    assert fit.exponent_interval is None


def test_an_optimum_at_the_edge_stays_in_the_fit_and_is_named():
    optima = [optimum_at([-1.0]), optimum_at([-2.0]), optimum_at([-20.0])]
    fit = fit_power_law([2.0, 4.0, 8.0], optima)
    assert fit.edge_sizes == (8.0,)
    assert len(fit.lrs) == 3
    assert fit.lrs[2] == 2**-9


@pytest.mark.parametrize("num_seeds", [2, 4])
def test_noise_leaves_the_true_exponent_inside_the_interval_of_few_seeds(num_seeds):
    # each size's rates lie differently about its optimum; steep on the right, as near divergence
    rng = np.random.default_rng(num_seeds)
    held = []
    for _ in range(60):
        optima = []
        for best in -1.3 * np.log(SIZES) + rng.uniform(0, 9):
            lattice = log(2) * np.arange(round(best / log(2)) - 3, round(best / log(2)) + 4)
            x = lattice - best
            curve = 2 * (np.expm1(3 * x) - 3 * x) / 9
            noise = 0.02 * rng.standard_normal((7, num_seeds)) + rng.standard_normal(num_seeds)
            optima.append(find_optimum(np.exp(lattice), curve[:, None] + noise, num_resamples=50))
        low, high = fit_power_law(SIZES, optima).exponent_interval
        held.append(low <= -1.3 <= high)
    assert np.mean(held) >= 0.85


@pytest.mark.parametrize(
    ("sizes", "lrs", "settings_", "message"),
    [
        ([4.0], [1.0], {}, "two different sizes"),
        ([4.0, 4.0], [1.0, 2.0], {}, "two different sizes"),
        ([4.0, 8.0], [1.0], {}, "as many"),
        ([[4.0], [8.0]], [1.0, 1.0], {}, "as many"),
        ([0.0, 8.0], [1.0, 1.0], {}, "positive"),
        ([4.0, 8.0], [nan, 1.0], {}, "positive"),
        ([4.0, 8.0], [inf, 1.0], {}, "positive"),
        ([4.0, 8.0], [1.0, 1.0], {"variance_floor": 0.0}, "variance_floor"),
        ([4.0, 8.0], [1.0, 1.0], {"variance_floor": "x"}, "variance_floor"),
        (["a", "b"], [1.0, 2.0], {}, "sizes"),
        (None, None, {}, "optima None"),
        ([4.0, 8.0], ["x", 1.0], {}, "optima"),
        (None, [1.0, 2.0], {}, "sizes None"),
    ],
)
def test_bad_input_is_refused(sizes, lrs, settings_, message):
    with pytest.raises(FitError, match=message):
        fit_power_law(sizes, lrs, **settings_)


@pytest.mark.parametrize("size", [0, -1.0, nan, inf, "x", None])
def test_a_rate_is_predicted_for_positive_sizes_alone(size):
    with pytest.raises(FitError, match="size"):
        fit_power_law([4.0, 8.0], [1.0, 0.5]).predict(size)


def test_a_fit_says_what_it_is_on_one_line_and_as_plain_data():
    fit = fit_power_law([4.0, 8.0], tuned([1.0, 0.5], [0.01, 0.02]))
    low, high = fit.exponent_interval
    assert str(fit) == f"lr ~ size^-1.000, interval {low:.4g} to {high:.4g}, r^2 1.000, 2 sizes"
    assert json.loads(json.dumps(fit.as_dict()))["sizes"] == [4.0, 8.0]
    edge = find_optimum([0.1, 0.2, 0.4], [1.0, 2.0, 3.0])
    assert str(fit_power_law([4, 8], [edge, edge])).endswith("2 sizes, at the edge at 4, 8")


def test_the_exponent_of_two_points_is_the_ratio_of_logs():
    assert fit_power_law([6, 38], [0.3, 0.02]).exponent == pytest.approx(
        log(0.02 / 0.3) / log(38 / 6)
    )
