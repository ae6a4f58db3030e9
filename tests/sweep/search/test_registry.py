"""The search that a caller means."""

import pytest

from etastar.errors import TrialError
from etastar.sweep.search import Bracket, Grid
from etastar.sweep.study import as_search


def test_a_search_a_name_and_rates():
    assert as_search(Bracket(0.1)) == Bracket(0.1)
    assert as_search("bracket") == Bracket()
    assert as_search([0.1, 0.2]) == Grid((0.1, 0.2))


@pytest.mark.parametrize("given", ["guess", 3, None, "optuna:tpe", "grid"])
def test_what_is_none_of_these_lists_the_known(given):
    with pytest.raises(TrialError, match="a search such as Bracket"):
        as_search(given)


@pytest.mark.parametrize(
    "options",
    [
        {"start": "x"},
        {"start": 0.1, "factor": float("nan")},
        {"factor": [1]},
        {"max_trials": "abc"},
        {"precision": 0.0},
    ],
)
def test_settings_of_another_type_or_out_of_range_are_refused(options):
    with pytest.raises(TrialError, match="of a bracket"):
        Bracket(**options)


@pytest.mark.parametrize("lrs", ["ab", 3, None, [[0.1]], ["a"], [], [0.1, 0.1], [-1.0]])
def test_what_are_no_rates(lrs):
    with pytest.raises(TrialError, match="rates"):
        Grid(lrs)
