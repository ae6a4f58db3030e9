"""Searches by name."""

import pytest

from etastar.errors import TrialError
from etastar.sweep.search import SEARCHES, Bracket, Grid, get_search


def test_searches_are_made_with_their_options():
    assert get_search("grid", lrs=(0.1,)) == Grid((0.1,))
    assert get_search("bracket", start=0.1, precision=0.3) == Bracket(0.1, precision=0.3)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(TrialError, match="one of: " + ", ".join(SEARCHES)):
        get_search("guess")


@pytest.mark.parametrize(
    ("name", "options", "known"),
    [("grid", {}, "lrs"), ("bracket", {"start": 0.1, "colour": 1}, "start, factor")],
)
def test_a_missing_or_unknown_option_lists_the_known(name, options, known):
    with pytest.raises(TrialError, match=f"options out of: {known}"):
        get_search(name, **options)
