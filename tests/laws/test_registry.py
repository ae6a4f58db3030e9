"""Laws by name, their combinations, and which of them exclude each other."""

import itertools

import pytest

from etastar.errors import LawError
from etastar.laws import LAWS, Constant, EffectiveDepth, Width, get_laws

NAMES = {
    "effective-depth",
    "path-sum",
    "structure",
    "depth-mup",
    "complete-p",
    "constant",
}
BRANCH = {"depth-mup", "complete-p"}
TRAINING = {"batch-size", "duration", "decay-timescale"}


def test_the_listed_laws():
    assert set(LAWS) == NAMES | TRAINING


def test_options_come_with_an_instance():
    law = EffectiveDepth(exponent=-1.0)
    assert get_laws(law) == (law,)
    assert get_laws("effective-depth") == (EffectiveDepth(exponent=-1.5),)


@pytest.mark.parametrize("law", ["warp", "", None, 3, EffectiveDepth])
def test_an_unknown_law_lists_the_known_ones(law):
    with pytest.raises(LawError) as caught:
        get_laws(law)
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(sorted(NAMES), 2)])
def test_branch_multipliers_exclude_every_other_correction_over_depth(first, second):
    if {first, second} & BRANCH and "constant" not in (first, second):
        with pytest.raises(LawError, match=f"'{first}' and '{second}' together"):
            get_laws([first, second])
    else:
        assert [law.name for law in get_laws((first, second))] == [first, second]


def test_a_law_given_twice_is_refused():
    with pytest.raises(LawError, match="'effective-depth' twice"):
        get_laws([EffectiveDepth(-1.0), EffectiveDepth(-0.5)])


def test_width_goes_with_any_depth_law():
    for name in NAMES:
        assert len(get_laws([name, Width()])) == 2


def test_no_law_is_refused():
    with pytest.raises(LawError, match="no law"):
        get_laws([])


def test_one_law_needs_no_sequence():
    assert get_laws("constant") == get_laws(Constant()) == (Constant(),)
