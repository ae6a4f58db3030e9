"""Verdicts follow from intervals."""

import pytest

from studies.records import Claim, ExponentFit, FamilyEvidence
from studies.verdicts import judge, verdict_of


def claim(value=-1.5, *, relation="equal", against=None):
    return Claim("said", "[X]", "a", value, relation=relation, against=against)


def family(name, exponent, interval, *, flags=()):
    fit = ExponentFit("effective-depth", exponent, interval, None, 1.0, (), flags)
    return FamilyEvidence(name, name, (), (), (), (fit,))


@pytest.mark.parametrize(
    ("interval", "relation", "expected"),
    [
        ((-1.7, -1.2), "equal", "agrees"),
        ((-1.5, -1.2), "equal", "agrees"),
        ((-1.4, -1.2), "equal", "contradicts"),
        ((-9.0, -1.6), "equal", "contradicts"),
        ((-2.6, -1.4), "equal", "undecided"),
        ((-2.4, -1.6), "below", "agrees"),
        ((-1.4, -1.2), "below", "contradicts"),
        ((-1.6, -1.2), "below", "undecided"),
        (None, "equal", "undecided"),
        (None, "below", "undecided"),
    ],
)
def test_the_verdict_is_read_off_the_interval(interval, relation, expected):
    assert verdict_of(claim(relation=relation), interval)[0] == expected


def test_a_difference_is_judged_by_both_intervals_in_quadrature():
    one, other = family("a", -1.0, (-1.3, -0.6)), family("b", -0.5, (-0.9, -0.2))
    found = judge([claim(0.0, relation="below", against="b")], [one, other])[0]
    assert found.measured == pytest.approx(-0.5)
    assert found.interval == pytest.approx((-0.5 - 0.18**0.5, -0.5 + 0.32**0.5))
    assert found.verdict == "undecided"


@pytest.mark.parametrize("flag", ["edge", "no optimum"])
def test_nothing_is_decided_by_optima_that_are_none(flag):
    found = judge([claim()], [family("a", -1.5, (-1.6, -1.4), flags=(flag,))])[0]
    assert (found.verdict, found.measured) == ("undecided", -1.5)
    assert flag in found.reason


def test_without_a_fit_there_is_nothing_measured():
    bare = FamilyEvidence("a", "a", (), (), (), ())
    assert judge([claim()], [bare])[0].measured is None
