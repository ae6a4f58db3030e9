"""Exponents, verdicts, known exceptions, and what stands for what across sizes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etastar.coordinates.check import _interpolation
from etastar.coordinates.coordinate_report import INIT, LayerCheck, Remedy, Trend
from etastar.coordinates.verdict import fitting_remedies, known_exception, trend_of, verdict_of

SIZES = [16, 64, 256]


def moments(exponents, constants=(1.0,), sizes=SIZES):
    """(seeds, steps, sizes) of power laws: a constant for each seed, an exponent for each step."""
    x = np.array(sizes, dtype=float)
    return np.array([[constant * x**power for power in exponents] for constant in constants])


@given(st.floats(-2, 2), st.floats(0.1, 10))
def test_a_power_law_gives_its_exponent(power, constant):
    trend = trend_of(moments([2 * power], [constant**2]), SIZES)
    assert trend.exponent == pytest.approx(power, abs=1e-9)
    assert trend.curves[0] == pytest.approx([constant * n**power for n in SIZES])


def test_steps_are_averaged_and_seeds_give_the_interval():
    trend = trend_of(moments([0.0, 2.0], [1.0, 1.0]), SIZES)
    assert trend.exponent == pytest.approx(0.5)
    assert trend.interval == pytest.approx((0.5, 0.5))
    apart = np.concatenate([moments([0.0]), moments([2.0])])
    low, high = trend_of(apart, SIZES).interval
    assert (low, high) == pytest.approx((0.0, 1.0))


def test_a_step_at_which_nothing_moves_is_left_out():
    data = moments([2.0, 2.0])
    data[:, 0] = 0.0
    trend = trend_of(data, SIZES)
    assert trend.exponent == pytest.approx(1.0)
    assert trend.curves[0] == (0.0, 0.0, 0.0)
    still = trend_of(np.zeros((2, 1, 3)), SIZES)
    assert (still.exponent, still.verdict) == (0.0, "flat")


def test_zero_at_some_sizes_alone_is_unclear():
    data = moments([0.0], [1.0, 1.0])
    data[..., 1] = 0.0
    trend = trend_of(data, SIZES)
    assert math.isnan(trend.exponent)
    assert trend.verdict == "unclear"


@pytest.mark.parametrize(("place", "verdict"), [(2, "grows"), (0, "shrinks")])
def test_divergence_at_one_end_is_a_trend(place, verdict):
    data = moments([0.0], [1.0, 1.0])
    data[..., place] = math.inf
    assert trend_of(data, SIZES).verdict == verdict


@pytest.mark.parametrize(
    ("exponent", "interval", "verdict"),
    [
        (0.1, None, "flat"),
        (0.1, (-0.3, 0.39), "flat"),
        (0.1, (0.0, 0.41), "unclear"),
        (-0.1, (-0.41, 0.0), "unclear"),
        (0.21, None, "grows"),
        (0.21, (0.01, 0.5), "grows"),
        (0.21, (-0.01, 0.5), "unclear"),
        (-0.21, (-0.5, -0.01), "shrinks"),
        (-0.21, (-0.5, 0.01), "unclear"),
        (math.inf, None, "grows"),
        (math.nan, (-math.inf, math.inf), "unclear"),
    ],
)
def test_verdicts(exponent, interval, verdict):
    assert verdict_of(exponent, interval) == verdict


def trend(exponent):
    return Trend(exponent, None, verdict_of(exponent, None), ((),))


def layer(role="hidden", name="weight", *, init=0.0, change=0.0):
    return LayerCheck("module", name, role, trend(init), trend(change))


def exception(which, *, init=0.0, change=0.0, kind="width", follows=True, in_branch=False):
    judged = replace(which, init=trend(init), change=trend(change))
    return known_exception(judged, kind=kind, follows=follows, in_branch=in_branch)


HEAD, LOGITS = layer("output"), layer(None, "attention logits")
STREAM = layer(None, "addition 2")


@pytest.mark.parametrize(
    ("which", "settings", "expected"),
    [
        (HEAD, {"init": -0.5}, True),
        (HEAD, {"init": -0.5, "change": -0.3}, True),
        (HEAD, {"init": -0.5, "change": -0.3, "follows": False}, False),
        (HEAD, {"init": 0.0, "change": -0.3}, False),
        (HEAD, {"init": -0.5, "change": 0.3}, False),
        (HEAD, {"init": -1.0}, False),
        (layer(), {"init": -0.5}, False),
        (LOGITS, {"init": -0.5}, True),
        (LOGITS, {"change": -0.5}, False),
        (LOGITS, {"init": 0.5}, False),
        (layer(), {"kind": "depth", "change": -1.0, "in_branch": True}, True),
        (layer(), {"kind": "depth", "change": -1.0}, False),
        (layer(), {"kind": "depth", "change": 0.5, "in_branch": True}, False),
        (layer(), {"kind": "depth", "change": -1.5, "in_branch": True}, False),
        (STREAM, {"kind": "depth", "change": -0.5, "in_branch": True}, False),
        (STREAM, {"kind": "depth", "init": -0.4, "in_branch": True}, True),
        (STREAM, {"kind": "depth", "init": -0.4, "follows": False}, False),
    ],
)
def test_known_exceptions(which, settings, expected):
    assert bool(exception(which, **settings)) is expected


@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=6, unique=True).map(sorted),
    st.lists(st.floats(0.01, 1), min_size=2, max_size=9, unique=True).map(sorted),
)
def test_interpolation_weights_give_the_mean_of_the_interpolated_values(wanted, own):
    values = np.linspace(1, 3, len(own)) ** 2
    weights = _interpolation(wanted, own)
    assert sum(weights) == pytest.approx(1)
    assert np.dot(weights, values) == pytest.approx(np.interp(wanted, own, values).mean())


def test_a_remedy_must_turn_the_trend_round():
    def remedy(setting, found, wanted):
        return Remedy("weight", setting, found, wanted)

    lower, higher = remedy("learning rate", 1.0, 0.5), remedy("learning rate", 1.0, 2.0)
    smaller = remedy("initial size", 1.0, 0.5)
    every = (lower, higher, smaller)
    assert fitting_remedies(every, layer(change=0.5)) == (lower, smaller)
    assert fitting_remedies(every, layer(change=-0.5)) == (higher,)
    assert fitting_remedies(every, layer(init=0.5)) == (smaller,)
    assert fitting_remedies(every, layer()) == ()


def test_the_change_is_judged_or_where_it_is_flat_the_size_before_the_first_step():
    both, before = layer(init=-0.5, change=0.5), layer(init=-0.5)
    assert (both.quantity, both.verdict) == ("change", "grows")
    assert (before.quantity, before.verdict) == (INIT, "shrinks")
    assert layer().passed
