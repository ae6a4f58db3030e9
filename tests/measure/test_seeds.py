"""How many seeds are used, and whether intervals over few of them hold what they are about."""

import math

import numpy as np
import pytest

from etastar.errors import MeasureError
from etastar.measure import UntilPrecise
from etastar.measure.seeds import half_width, log_interval, use_seeds


def used(choice, logs):
    """The seeds that are used where seed i gives logs[i], and what they gave."""
    found = []
    return use_seeds(
        choice, lambda seed: found.append(logs[seed]), lambda q: half_width(found, q)
    ), found


@pytest.mark.parametrize(
    "settings",
    [
        *({"precision": bad} for bad in (0.0, -1.0, math.nan, "x")),
        *({"at_most": bad} for bad in (2, 3.5, True)),
        *({"first": bad} for bad in (-1, 0.5)),
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(MeasureError, match=next(iter(settings))):
        UntilPrecise(**settings)


def test_seeds_are_doubled_from_the_first_one_up_to_the_cap():
    every, _ = used(
        UntilPrecise(1e-6, at_most=20, first=5), np.random.default_rng(0).normal(size=30)
    )
    assert every.numbers == tuple(range(5, 25))
    assert "1e-06" in every.shortfall
    assert "20 seeds, the most allowed" in every.shortfall


def test_seeds_that_agree_are_three_and_nothing_is_said():
    every, _ = used(None, [1.0] * 40)
    assert every.numbers == (0, 1, 2)
    assert every.shortfall == ""


def test_named_seeds_are_taken_exactly():
    logs = np.random.default_rng(0).normal(size=60)
    for choice, numbers in ((2, (0, 1)), ([7, 3], (7, 3)), (range(40), tuple(range(40)))):
        every, found = used(choice, logs)
        assert every.numbers == numbers
        assert found == [logs[seed] for seed in numbers]
        assert every.shortfall == ""


def test_what_no_number_of_seeds_makes_precise_ends_after_three():
    assert used(None, [math.inf] * 40)[0].numbers == (0, 1, 2)


def test_the_half_width_is_that_of_students_t():
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert half_width([0.0, 2.0]) == pytest.approx(12.7062, rel=1e-4)
    assert half_width(np.arange(10.0)) == pytest.approx(2.262 * 3.02765 / 10**0.5, rel=1e-3)
    assert half_width([1.0]) == math.inf


def test_the_interval_of_squares_is_about_their_geometric_mean():
    low, high = log_interval([1.0, 4.0, 16.0])
    assert low * high == pytest.approx(16.0)
    assert log_interval([1.0]) is None
    assert log_interval([0.0, 2.0, math.inf]) == (0.0, math.inf)


def test_three_seeds_of_heavy_tailed_squares_hold_their_truth_in_95_of_100_sets():
    """Squares that vary as those of deep chains do; a bootstrap of three holds it in half."""
    draws = np.exp(1.5 * np.random.default_rng(0).normal(size=(2000, 3)))
    holds = [low <= 1 <= high for low, high in map(log_interval, draws)]
    assert 0.93 <= np.mean(holds) <= 0.97


@pytest.mark.parametrize("scatter", [0.05, 0.15, 0.3, 0.6, 1.2])
def test_seeds_that_are_added_until_it_is_narrow_hold_it_as_often(scatter):
    """A stop at which the spread is looked at favours seeds that happen to agree."""
    rng = np.random.default_rng(1)
    holds = []
    for _ in range(1500):
        every, found = used(None, scatter * rng.normal(size=32))
        holds.append(abs(np.mean(found)) <= half_width(found, every.confidence))
    assert 0.93 <= np.mean(holds) <= 0.99
