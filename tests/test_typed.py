"""Values against the types of their arguments."""

from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, Optional

import numpy as np
import pytest
import torch
from hypothesis import given as draw
from hypothesis import strategies as st

from etastar.errors import FitError, ModelSpecError
from etastar.typed import as_seeds, plain_number, require_number, require_type

SIDE = Literal["left", 2]


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3], [1.5, True, "3", None, [1]]),
        (float, [0, 1.5], [True, "1", 10**400, float("nan"), float("inf"), None]),
        (bool, [True, False], [0, "no", None]),
        (str, ["", "a"], [3, None, ["a"]]),
        (int | None, [3, None], ["x", False, 2.0]),
        (Optional[str], ["x", None], [3]),  # noqa: UP045  both forms are written
        (int | str, [3, "x"], [None, 2.5]),
        (SIDE, ["left", 2], ["right", 2.0, True, None]),
        (Literal[1, 2], [1, 2], [True, 0, "1"]),
        (Any, [None, 3, "x"], []),
        (dict[str, int], [{}, 3], []),
    ],
    ids=str,
)
def test_a_value_is_of_its_type_or_refused_by_name(annotation, good, bad):
    for value in good:
        require_type("it", value, annotation)
    for value in bad:
        with pytest.raises(ModelSpecError, match=r"received: it=.*\n.*\nwhat to do: c\w+ it"):
            require_type("it", value, annotation)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(2, (0, 1)), ([3, 1], (3, 1)), (range(1, 3), (1, 2)), (np.arange(2), (0, 1))],
)
def test_seeds_are_a_number_of_them_or_each_by_itself(given, expected):
    found = as_seeds(given, error=ModelSpecError)
    assert found == expected
    assert all(type(seed) is int for seed in found)


@pytest.mark.parametrize("given", [0, -1, (), None, 1.5, "ab", [0.5], [-1], [1, 1], True, [True]])
def test_seeds_of_no_use_are_refused_with_the_error_asked_for(given):
    with pytest.raises(FitError, match="seeds="):
        as_seeds(given, error=FitError)


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "expected"),
    [
        ({}, [0, -1.5, np.float64(2), 10**300], ["1", None, 10**400], "a finite number"),
        ({"above": 0}, [1e-300, 1], [0, 0.0, -1], "a finite number above 0"),
        ({"least": 0.5}, [0.5, 2], [0.4, -1], "a finite number of at least 0.5"),
        (
            {"least": 1, "whole": True},
            [1, 2**63 - 1],
            [0, 1.0, "1"],
            "a whole number of at least 1",
        ),
    ],
    ids=str,
)
def test_a_number_is_finite_and_in_its_range_or_refused_by_name(bounds, good, bad, expected):
    for value in good:
        require_number("it", value, error=FitError, **bounds)
    for value in (*bad, True, float("nan"), float("inf"), -float("inf")):
        with pytest.raises(FitError, match="it=") as refused:
            require_number("it", value, error=FitError, owner="them", **bounds)
        assert refused.value.received == f"it={value!r} of them"
        assert refused.value.expected == expected


@pytest.mark.parametrize("value", [2**63, 10**40])
def test_a_number_to_which_nobody_counts_is_refused(value):
    with pytest.raises(FitError, match=r"a whole number of at least 1 below 2\^63"):
        require_number("it", value, error=FitError, least=1, whole=True)


@draw(st.floats(allow_nan=False, width=32))
def test_a_number_is_the_same_whoever_made_it(value):
    array, tensor = np.array(value), torch.tensor(value, dtype=torch.float64, requires_grad=True)
    for given in (value, np.float32(value), np.float64(value), array, tensor):
        found = plain_number(given)
        assert type(found) is float
        assert found == value
    assert plain_number(torch.tensor(7)) == plain_number(np.int64(7)) == 7
    assert type(plain_number(np.int64(7))) is int
    assert plain_number(Fraction(1, 4)) == 0.25


NO_NUMBERS = [True, np.True_, torch.tensor(True), "1", None, [0.1], np.array([0.1]), 1j]
NO_NUMBERS += [torch.tensor([0.1]), torch.tensor(1j), torch.empty((), device="meta"), Decimal(1)]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_real_number_is_refused(value):
    assert plain_number(value) is None
    with pytest.raises(FitError, match=r"received: lr=.*\nexpected: a finite number above 0"):
        require_number("lr", value, error=FitError, above=0)
