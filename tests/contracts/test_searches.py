"""What every search promises, on losses of every kind."""

import json
import random
from math import inf, log, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.sweep.search import Bracket, Context, Grid, Search
from etastar.sweep.trial import TrialRecord

SEARCHES_UNDER_TEST = {
    "grid": Grid((1.0, 0.1, 0.01)),
    "bracket": Bracket(0.1),
    "bracket, measured start": Bracket(),
    "bracket, coarse": Bracket(3.0, factor=3.0, precision=0.5),
    "bracket, exacting": Bracket(1e-3, factor=1.2, precision=1e-3, max_trials=25),
}
SIZE = (("depth", 2),)
EVERY = pytest.mark.parametrize("search", SEARCHES_UNDER_TEST.values(), ids=SEARCHES_UNDER_TEST)


def noise(point, salt):
    return random.Random(f"{point.lr} {point.seed} {salt}").uniform(-1, 1)


def parabola(point, salt, optimum, noisiness):
    return log(point.lr / optimum) ** 2 + noisiness * noise(point, salt)


LANDSCAPES = {
    "parabola": parabola,
    "cliff": lambda p, salt, optimum, n: inf if p.lr > optimum else parabola(p, salt, optimum, n),
    "cliff of NaN": lambda p, salt, optimum, n: nan if p.lr > optimum else -p.lr,
    "flat": lambda p, salt, optimum, n: 1.0,
    "falling": lambda p, salt, optimum, n: -p.lr,
    "rising": lambda p, salt, optimum, n: p.lr,
    "diverged": lambda p, salt, optimum, n: inf,
    "NaN": lambda p, salt, optimum, n: nan,
    "minus infinity": lambda p, salt, optimum, n: -inf,
    "noise": lambda p, salt, optimum, n: noise(p, salt),
    "noise with holes": lambda p, salt, optimum, n: nan if noise(p, -salt) > 0 else noise(p, salt),
    "huge": lambda p, salt, optimum, n: 1.7e308 * noise(p, salt),
    "tiny": lambda p, salt, optimum, n: 5e-324 * round(9 * noise(p, salt)),
}

landscapes = st.builds(
    lambda kind, *rest: lambda point: LANDSCAPES[kind](point, *rest),
    st.sampled_from(sorted(LANDSCAPES)),
    st.integers(1, 1000),
    st.floats(1e-6, 1e4),
    st.floats(0, 3),
)
contexts = st.builds(
    lambda seeds: Context(SIZE, tuple(seeds), (), start=0.03),
    st.lists(st.integers(0, 100), min_size=1, max_size=4, unique=True),
)


def record(point, loss):
    return TrialRecord(SIZE, point, loss, (2.0, 1.0), loss in (inf, nan), 10, 2.0)


def drive(search, landscape, context, limit=500):
    """Each proposal with the runs that were finished before it."""
    finished, history = [], []
    for _ in range(limit):
        proposal = search.propose(tuple(finished), context)
        history.append((tuple(finished), proposal))
        if not proposal:
            return history
        finished += [record(point, landscape(point)) for point in proposal]
    raise AssertionError("the search does not end")


@EVERY
@settings(deadline=None, max_examples=30)
@given(landscapes, contexts)
def test_ends_and_asks_for_nothing_twice(search, landscape, context):
    asked = [point for _, proposal in drive(search, landscape, context) for point in proposal]
    assert len(asked) == len(set(asked)) > 0
    assert {point.seed for point in asked} <= set(context.seeds)
    assert all(0 < point.lr < inf for point in asked)


@EVERY
@settings(deadline=None, max_examples=10)
@given(landscapes, contexts, st.randoms(use_true_random=False))
def test_the_order_in_which_runs_end_changes_nothing(search, landscape, context, rng):
    for finished, proposal in drive(search, landscape, context):
        shuffled = list(finished)
        rng.shuffle(shuffled)
        assert search.propose(shuffled, context) == proposal


@EVERY
@settings(deadline=None, max_examples=10)
@given(landscapes, contexts, st.data())
def test_goes_on_where_a_killed_sweep_stopped(search, landscape, context, data):
    history = drive(search, landscape, context)
    finished, proposal = data.draw(st.sampled_from(history))
    some = data.draw(st.integers(0, len(proposal)))
    rest = [record(point, landscape(point)) for point in proposal[:some]]
    now = search.propose((*finished, *rest), context)
    if some < len(proposal):
        assert now == proposal[some:]


@EVERY
@settings(deadline=None, max_examples=10)
@given(landscapes, contexts)
def test_stays_done(search, landscape, context):
    finished, _ = drive(search, landscape, context)[-1]
    assert search.propose(finished, context) == ()
    assert search.propose(finished[::-1], context) == ()


@EVERY
@settings(deadline=None, max_examples=5)
@given(landscapes, contexts)
def test_proposing_leaves_global_random_numbers_alone(search, landscape, context):
    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    drive(search, landscape, context)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


@EVERY
def test_options_can_be_stored_and_tell_searches_apart(search):
    others = [other for other in SEARCHES_UNDER_TEST.values() if other is not search]
    assert json.loads(json.dumps(search.options)) == search.options
    assert all((other.name, other.options) != (search.name, search.options) for other in others)


def test_every_registered_search_is_under_test():
    assert {search.name for search in SEARCHES_UNDER_TEST.values()} == {
        search.name for search in Search.__subclasses__() if search.__module__.startswith("etastar")
    }
