"""The bracket on curves whose minimum is known."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.errors import TrialError
from etastar.fit import find_optimum
from etastar.sweep.recipe import Point
from etastar.sweep.search import Bracket, Context
from etastar.sweep.trial import TrialRecord

SIZE = (("depth", 4),)


def run(search, loss, seeds=(0, 1), optima=(), losses=(2.0, 1.0)):
    """All runs of a search."""
    context, records = Context(SIZE, seeds, optima), []
    while points := search.propose(records, context):
        for point in points:
            value = loss(point)
            diverged = not math.isfinite(value)
            records.append(TrialRecord(SIZE, point, value, losses, diverged, 10, 2.0))
    return records


def optimum_of(records):
    """`find_optimum` on the rates with most seeds."""
    table = {}
    for record in records:
        table.setdefault(record.point.lr, {})[record.point.seed] = record.loss
    most = max(map(len, table.values()))
    full = {lr: [row[s] for s in sorted(row)] for lr, row in table.items() if len(row) == most}
    return find_optimum(list(full), list(full.values()), num_resamples=1)


def parabola(optimum):
    return lambda point: math.log(point.lr / optimum) ** 2


def noisy(optimum, noisiness, salt):
    """A parabola; each seed has its own height, each run its own noise."""

    def loss(point):
        run_noise = random.Random(f"{salt} {point}").gauss(0, noisiness)
        seed_noise = random.Random(f"{salt} {point.seed}").gauss(0, 1)
        return math.log(point.lr / optimum) ** 2 + run_noise + seed_noise

    return loss


@settings(deadline=None)
@given(st.floats(0.05, 0.2))
def test_a_parabola_within_a_factor_of_two_takes_nine_runs_of_two_seeds(optimum):
    records = run(Bracket(0.1), parabola(optimum))
    assert len(records) <= 9
    assert optimum_of(records).lr == pytest.approx(optimum, rel=1e-4)


@settings(deadline=None)
@given(st.floats(1e-4, 100.0))
def test_a_parabola_three_decades_away_takes_sixteen_runs_of_two_seeds(optimum):
    records = run(Bracket(0.1), parabola(optimum))
    assert len(records) <= 16
    assert optimum_of(records).lr == pytest.approx(optimum, rel=1e-4)
    assert optimum_of(records).method == "quadratic"


def test_six_runs_when_the_law_predicts_the_optimum():
    done = find_optimum([0.5, 1.0, 2.0], [1.0, 0.0, 1.0])
    optima = (((("depth", 1),), done),)
    records = run(Bracket(77.0), parabola(4**-1.5), optima=optima)
    assert len(records) == 6
    assert records[0].point == Point(0.125, 0)


def test_one_seed_until_the_minimum_is_enclosed_then_only_the_three_that_define_it():
    points = [record.point for record in run(Bracket(0.1), parabola(0.6), seeds=(7, 3))]
    first = [point.lr for point in points if point.seed == 7]
    second = [point.lr for point in points if point.seed == 3]
    assert points[: len(first)] == [Point(lr, 7) for lr in first]
    assert len(second) == 3
    assert max(second) / min(second) == pytest.approx(1.6**2, rel=1e-4)
    assert min(second) < 0.6 < max(second)


def test_seeds_are_spent_until_the_interval_is_narrow_enough():
    def trials(precision):
        counts = [
            len(run(Bracket(0.1, precision=precision), noisy(0.17, 0.1, salt), tuple(range(20))))
            for salt in range(15)
        ]
        return np.mean(counts)

    assert trials(0.5) + 1 < trials(0.15) < trials(0.08) - 2


def test_seeds_are_not_spent_on_the_error_of_the_grid():
    def loss(point):  # steep above; seeds differ in height alone
        x = math.log(point.lr / 0.17)
        return math.exp(4 * x) - 4 * x + 0.3 * point.seed

    records = run(Bracket(0.1, precision=0.05), loss, seeds=tuple(range(20)))
    assert {record.point.seed for record in records} == {0, 1}
    table = {}
    for record in records:
        table.setdefault(record.point.lr, []).append(record.loss)
    full = {lr: losses for lr, losses in table.items() if len(losses) == 2}
    low, high = find_optimum(list(full), list(full.values())).interval
    assert math.log(high / low) / 2 > 0.05


@pytest.mark.parametrize(("noisiness", "stated"), [(0.05, 0.95), (0.15, 0.8)])
def test_a_noisy_optimum_lies_within_the_precision_as_often_as_stated(noisiness, stated):
    # the second noise is two thirds of the rise from the minimum to its neighbours
    seeds, salts = tuple(range(30)), range(50)
    found = [optimum_of(run(Bracket(0.1), noisy(0.17, noisiness, s), seeds)) for s in salts]
    hits = [abs(math.log(optimum.lr / 0.17)) <= 0.15 for optimum in found]
    assert np.mean(hits) >= stated


def test_divergence_bounds_from_above_and_is_approached_to_the_precision():
    search = Bracket(0.1, precision=0.1)
    records = run(search, lambda p: math.inf if p.lr > 0.35 else -p.lr, seeds=(0,))
    lowest = max(record.point.lr for record in records if not record.diverged)
    highest = min(record.point.lr for record in records if record.diverged)
    assert lowest <= 0.35 < highest <= lowest * math.exp(0.1) * 1.001


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_divergence_everywhere_goes_down_to_the_reach_and_ends(loss):
    records = run(Bracket(0.1), lambda p: loss)
    lrs = [record.point.lr for record in records]
    assert min(lrs) == pytest.approx(1e-5, rel=0.15)
    assert max(lrs) == pytest.approx(0.16)
    assert len(records) <= 8


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_monotone_curve_ends_at_the_reach_with_one_seed(sign):
    records = run(Bracket(0.1), lambda p: sign * math.log(p.lr))
    assert {record.point.seed for record in records} == {0}
    assert optimum_of(records).at_edge
    assert abs(math.log(optimum_of(records).lr / 0.1)) == pytest.approx(math.log(1e4), abs=0.15)


def test_a_start_where_nothing_is_learned_goes_down_though_the_loss_rises_there():
    def loss(point):  # beyond 1 a hump, that falls again further up
        return parabola(0.01)(point) if point.lr < 1 else 50.0 - point.lr

    context, records = Context(SIZE, (0,), ()), []
    search = Bracket(2.0)
    while points := search.propose(records, context):
        for point in points:
            curve = (2.0, 1.0) if point.lr < 1 else (2.0, 9.0)
            records.append(TrialRecord(SIZE, point, loss(point), curve, False, 10, 2.0))
    assert max(record.point.lr for record in records) == pytest.approx(3.2)
    assert optimum_of(records).lr == pytest.approx(0.01, rel=1e-4)


def test_max_trials_is_kept_to():
    # three that enclose it, then three for each further seed, or none
    for most, expected in [(3, 3), (5, 3), (6, 6), (8, 6), (9, 9)]:
        records = run(Bracket(0.1, max_trials=most), noisy(0.13, 1e-3, 0), seeds=(0, 1, 2, 3))
        assert len(records) == min(expected, 6)


def test_runs_that_are_not_on_the_lattice_are_left_aside():
    context = Context(SIZE, (0,), ())
    foreign = [
        TrialRecord(SIZE, Point(lr, seed), -9.0, (1.0,), False, 10, 1.0)
        for lr, seed in [(0.1234, 0), (0.1, 5)]
    ]
    assert Bracket(0.1).propose(foreign, context) == Bracket(0.1).propose((), context)


@pytest.mark.parametrize(
    "setting",
    [
        {"start": 0.0},
        {"start": math.nan},
        {"factor": 1.0},
        {"precision": 0.0},
        {"max_trials": 2},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(TrialError, match="of a bracket"):
        Bracket(**{"start": 0.1, **setting})


def test_without_a_start_it_begins_where_the_criterion_says():
    context = Context(SIZE, (0,), (), start=0.02)
    assert [point.lr for point in Bracket().propose((), context)] == [0.02, 0.032]
    assert [point.lr for point in Bracket(0.1).propose((), context)] == [0.1, 0.16]


def test_after_a_size_with_an_optimum_no_start_is_needed():
    done = find_optimum([0.05, 0.1, 0.2], [1.0, 0.0, 1.0], num_resamples=1)
    context = Context(SIZE, (0,), (((("depth", 4),), done),))
    assert Bracket().propose((), context)[0].lr == 0.1


def test_the_start_is_told_in_the_options():
    assert Bracket().options["start"] == "measured"
    assert Bracket(0.1).options["start"] == 0.1
    assert Bracket().needs_start
    assert not Bracket(0.1).needs_start


@pytest.mark.parametrize("scale", [1e-300, 1e307])
def test_the_unit_of_the_loss_does_not_matter(scale):
    curve = noisy(0.17, 0.15, 0)
    seeds = tuple(range(5))
    plain, scaled = (
        run(Bracket(0.1), curve, seeds),
        run(Bracket(0.1), lambda point: scale * curve(point), seeds),
    )
    assert [one.point for one in scaled] == [one.point for one in plain]
    assert len(plain) > 9
