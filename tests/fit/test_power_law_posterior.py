"""The power law with a prior, against the multivariate normal written out."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etastar.errors import FitError
from etastar.fit import fit_power_law, power_law_posterior

SIZES = st.lists(st.integers(1, 200), min_size=1, max_size=6, unique=True)


def reference(x, y, v, prior_exponent, prior_sd, at):
    """Slow twin: condition a joint normal of (a, b), the prior of a nearly flat."""
    design = np.stack([np.ones_like(x), x], 1)
    prior_precision = np.diag([1e-10, prior_sd**-2])
    precision = design.T @ np.diag(1 / v) @ design + prior_precision
    mean = np.linalg.solve(precision, design.T @ (y / v) + prior_precision @ [0.0, prior_exponent])
    covariance = np.linalg.inv(precision)
    row = np.array([1.0, at])
    return mean[1], np.sqrt(covariance[1, 1]), row @ mean, row @ covariance @ row


@given(SIZES, st.data(), st.floats(-3, 1), st.floats(0.05, 3))
def test_equals_the_conditioned_normal(sizes, data, prior_exponent, prior_sd):
    logs = data.draw(st.lists(st.floats(-6, 1), min_size=len(sizes), max_size=len(sizes)))
    variances = data.draw(st.lists(st.floats(0.03, 1), min_size=len(sizes), max_size=len(sizes)))
    x, y, v = np.log(np.array(sizes, float)), np.array(logs), np.array(variances)
    got = power_law_posterior(
        sizes,
        np.exp(y),
        prior_exponent=prior_exponent,
        prior_sd=prior_sd,
        variances=v,
        noise=0.01,
    )
    exponent, sd, line, variance = reference(x, y, v, prior_exponent, prior_sd, np.log(50.0))
    assert got.exponent == pytest.approx(exponent, abs=1e-5)
    assert got.exponent_sd == pytest.approx(sd, rel=1e-5)
    assert np.log(got.predict(50.0)) == pytest.approx(line, abs=1e-4)
    low, high = got.interval(50.0)
    assert np.log(high / low) == pytest.approx(
        2 * 1.959964 * np.sqrt(variance + v.mean()), rel=1e-4
    )


@example(51, 0.375, 0.0)  # -2.7e-31 or so in place of 0
@given(st.integers(1, 100), st.floats(1e-4, 1), st.floats(-3, 1))
def test_one_size_gives_the_law_back(size, lr, exponent):
    one = power_law_posterior([size], [lr], prior_exponent=exponent)
    # the weighted mean of one number is that number up to a rounding
    assert one.exponent == pytest.approx(exponent, abs=1e-12)
    assert one.predict(3.0 * size) == pytest.approx(lr * 3.0**exponent)


def test_many_sizes_give_the_data_back():
    sizes = np.array([2, 4, 8, 16, 32, 64])
    lrs = 0.3 * sizes**-0.4
    wide = power_law_posterior(sizes, lrs, prior_sd=100.0)
    assert wide.exponent == pytest.approx(fit_power_law(sizes, lrs).exponent, abs=1e-4)
    narrow = power_law_posterior(sizes, lrs, prior_sd=1e-4)
    assert narrow.exponent == pytest.approx(-1.5, abs=1e-4)


def test_the_predictive_interval_holds_the_optimum_as_often_as_it_says():
    rng, hits, repeats = np.random.default_rng(0), 0, 2000
    for _ in range(repeats):
        exponent, offset = rng.normal(-1.5, 0.5), rng.normal(0, 1)
        sizes = np.array([3.0, 6.0, 12.0])
        noisy = np.exp(offset + exponent * np.log(sizes) + rng.normal(0, 0.15, 3))
        low, high = power_law_posterior(sizes, noisy).interval(48.0)
        truth = np.exp(offset + exponent * np.log(48.0) + rng.normal(0, 0.15))
        hits += low <= truth <= high
    assert hits / repeats == pytest.approx(0.95, abs=0.015)


def test_the_interval_widens_away_from_the_data():
    fit = power_law_posterior([4, 8], [0.1, 0.05])
    widths = [np.log(high / low) for low, high in map(fit.interval, (8, 32, 128))]
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sizes": [], "lrs": []},
        {"sizes": [1, 2], "lrs": [0.1]},
        {"sizes": [1], "lrs": [0.0]},
        {"sizes": [-1], "lrs": [0.1]},
        {"sizes": [1], "lrs": [float("nan")]},
        {"sizes": [1], "lrs": [0.1], "variances": [-1.0]},
        {"sizes": [1], "lrs": [0.1], "noise": 0.0},
        {"sizes": [1], "lrs": [0.1], "prior_sd": 0.0},
        {"sizes": [1], "lrs": [0.1], "prior_exponent": "x"},
        {"sizes": ["x"], "lrs": [0.1]},
        {"sizes": [1], "lrs": None},
    ],
)
def test_bad_input(arguments):
    with pytest.raises(FitError):
        power_law_posterior(**arguments)
