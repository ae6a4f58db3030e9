"""The grid."""

import math

import pytest

from etastar.errors import TrialError
from etastar.sweep.recipe import Point
from etastar.sweep.search import Context, Grid
from etastar.sweep.trial import TrialRecord

CONTEXT = Context((("depth", 2),), (3, 1), ())


def test_every_rate_with_every_seed():
    assert Grid((0.2, 0.1)).propose((), CONTEXT) == (
        Point(0.2, 3),
        Point(0.1, 3),
        Point(0.2, 1),
        Point(0.1, 1),
    )


def test_a_diverged_run_is_not_asked_for_again():
    done = TrialRecord(CONTEXT.size, Point(0.2, 3), math.inf, (1.0,), True, 0, 1.0)
    assert Grid((0.2,)).propose([done], CONTEXT) == (Point(0.2, 1),)


@pytest.mark.parametrize("lrs", [(), (0.1, 0.1), (0.1, -1.0), (math.nan,), (math.inf,)])
def test_rates_that_are_none_are_refused(lrs):
    with pytest.raises(TrialError, match="the rates"):
        Grid(lrs)


def test_options_give_the_rates_exactly():
    rates = (0.1, 1 / 3)
    assert Grid(rates).options == {"lrs": "0.1,0.3333333333333333"}
    assert Grid([1, 2]) == Grid((1.0, 2.0))
