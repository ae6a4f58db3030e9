"""Regret of a transferred rate."""

import json
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.errors import FitError
from etastar.fit import transfer_regret

losses = st.lists(st.floats(-5, 5), min_size=3, max_size=3).map(np.array)


def test_regret_is_the_mean_difference_and_relative_to_what_training_gains():
    found = transfer_regret([1.0, 1.5], [0.5, 0.5], initial_losses=[2.0, 3.0])
    assert (found.regret, found.relative, found.num_seeds) == (0.75, 0.375, 2)
    # resampled means of (0.5, 1.0) are 0.5, 0.75 and 1
    assert found.interval == (0.5, 1.0)
    assert found.relative_interval == (0.25, 0.5)


def test_what_is_common_to_the_seeds_does_not_widen_the_interval():
    found = transfer_regret([11.0, 1.0, 6.0], [10.5, 0.5, 5.5])
    assert found.interval == (0.5, 0.5)


@settings(deadline=None, max_examples=50)
@given(losses, losses, st.floats(0.1, 10), st.floats(-3, 3))
def test_relative_regret_does_not_depend_on_the_unit_of_loss(transferred, optimal, gain, shift):
    initial = optimal + np.array([1.0, 2.0, 3.0])
    base = transfer_regret(transferred, optimal, initial_losses=initial)
    other = transfer_regret(
        gain * transferred + shift,
        gain * optimal + shift,
        initial_losses=gain * initial + shift,
    )
    assert other.relative == pytest.approx(base.relative, abs=1e-9)
    assert other.relative_interval == pytest.approx(base.relative_interval, abs=1e-9)
    assert other.regret == pytest.approx(gain * base.regret, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(losses, losses)
def test_exchanging_the_rates_changes_the_sign_and_equal_rates_cost_nothing(one, other):
    assert transfer_regret(one, other).regret == pytest.approx(-transfer_regret(other, one).regret)
    assert transfer_regret(one, one).interval == (0.0, 0.0)


@pytest.mark.parametrize("bad", [inf, nan, -inf])
def test_a_diverged_seed_makes_the_regret_infinite_and_is_counted(bad):
    found = transfer_regret([1.0, bad, 1.0], [0.5] * 3, initial_losses=[2.0] * 3)
    assert (found.regret, found.relative, found.num_diverged) == (inf, inf, 1)
    # a resample leaves the diverged seed out with probability 8/27
    assert found.interval == (0.5, inf)


def test_a_single_seed_has_no_interval():
    found = transfer_regret([1.0], [0.5], initial_losses=[1.5])
    assert (found.regret, found.relative) == (0.5, 0.5)
    assert (found.interval, found.relative_interval) == (None, None)


def test_without_initial_losses_there_is_no_relative_regret():
    found = transfer_regret([1.0, 2.0], [0.5, 0.5])
    assert (found.relative, found.relative_interval) == (None, None)


def test_a_regret_says_what_it_is_on_one_line_and_as_plain_data():
    found = transfer_regret([1.0, 1.5], [0.5, 0.5], initial_losses=[2.0, 3.0])
    assert str(found) == "regret 0.75, interval 0.5 to 1, 37.5% of what training gains"
    assert json.loads(json.dumps(found.as_dict()))["relative"] == 0.375
    assert str(transfer_regret([1.0, nan], [0.5, 0.5])).endswith("1 of 2 seeds diverged")


@pytest.mark.parametrize(
    ("transferred", "optimal", "options", "message"),
    [
        ([1.0], [1.0, 2.0], {}, "optimal_losses of shape"),
        ([], [], {}, "optimal_losses of shape"),
        ([[1.0]], [[1.0]], {}, "optimal_losses of shape"),
        ([1.0], [inf], {}, "finite"),
        ([1.0], [0.5], {"initial_losses": [1.0, 2.0]}, "initial_losses of shape"),
        ([1.0], [0.5], {"initial_losses": [nan]}, "finite"),
        ([1.0], [0.5], {"initial_losses": [0.5]}, "lowers the loss"),
        ("x", "y", {}, "transferred_losses 'x'"),
        ([1.0], "y", {}, "optimal_losses 'y'"),
    ],
)
def test_bad_input_is_refused(transferred, optimal, options, message):
    with pytest.raises(FitError, match=message):
        transfer_regret(transferred, optimal, **options)
