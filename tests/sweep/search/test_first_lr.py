"""Where a size's optimum is expected."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etastar.fit import find_optimum
from etastar.sweep.search import Bracket, Context


def size(depth):
    return (("depth", depth), ("width", 8))


def optimum(lr, at_edge=False):
    return find_optimum([lr / 2, lr, 2 * lr], [0.0, 1.0, 2.0] if at_edge else [1.0, 0.0, 1.0])


def context(depth, done, depths=()):
    return Context(size(depth), (0,), tuple((size(d), o) for d, o in done), depths)


def predicted_lr(context, start):
    """Where the bracket begins; it rounds to six digits."""
    return Bracket(start).propose((), context)[0].lr


def test_nothing_done_is_the_start():
    assert predicted_lr(context(4, []), 0.3) == 0.3


@given(st.floats(1e-4, 10), st.integers(1, 64))
def test_one_size_gives_the_prior_law(lr, depth):
    found = predicted_lr(context(depth, [(4, optimum(lr))]), 1.0)
    assert found == pytest.approx(lr * (depth / 4) ** -1.5, rel=1e-5)


def test_sizes_far_apart_give_their_own_law():
    done = [(d, optimum(d**-0.5)) for d in (1, 4, 16, 64, 256)]
    found = predicted_lr(context(1024, done), 1.0)
    assert found == pytest.approx(1024**-0.5, rel=0.01)


def test_sizes_close_together_leave_the_prior_its_say():
    done = [(20, optimum(1.0)), (21, optimum(1.1))]
    slope = math.log(predicted_lr(context(2000, done), 1.0) / 1.05)
    assert -1.6 < slope / math.log(100) < -1.3


def test_optima_at_an_edge_count_only_when_there_are_no_others():
    edge, inside = (2, optimum(50.0, at_edge=True)), (4, optimum(0.1))
    both = predicted_lr(context(4, [inside, edge]), 1.0)
    assert both == pytest.approx(0.1)
    assert predicted_lr(context(2, [edge]), 1.0) == pytest.approx(25.0)


def test_without_a_depth_the_last_rate_stays():
    sizes = [(("width", w),) for w in (8, 16, 32)]
    done = tuple(zip(sizes, (optimum(0.1), optimum(0.2)), strict=False))
    assert predicted_lr(Context(sizes[2], (0,), done), 1.0) == 0.2


def test_effective_depth_goes_before_the_nominal():
    depths = ((size(2), 6.0), (size(4), 10.0))
    found = predicted_lr(context(4, [(2, optimum(1.0))], depths), 1.0)
    assert found == pytest.approx(0.6**1.5, rel=1e-5)
    nominal = predicted_lr(context(3, [(2, optimum(1.0))], depths), 1.0)
    assert nominal == pytest.approx(2.0**1.5, rel=1e-5)


def test_a_depth_of_zero_is_none():
    found = predicted_lr(context(0, [(2, optimum(0.3))]), 1.0)
    assert found == pytest.approx(0.3)
