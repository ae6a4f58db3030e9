"""Walking to a minimum on a lattice."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.sweep.search.bracket import Triple, next_position


def walk(curve, start, **lattice):
    """Positions in the order asked for, and the triple at the end."""
    values = {k: curve(k) for k in start}
    while isinstance(found := next_position(values, **lattice), int):
        assert found not in values
        values[found] = curve(found)
    return list(values), found


def test_steps_outwards_double():
    asked, found = walk(lambda k: -k, (0, 1), gap=1, limit=100)
    assert asked == [0, 1, 2, 4, 8, 16, 32, 64, 100, 82, 91, 95, 97, 98, 99]
    assert found == Triple(99, 100, 100)


def test_steps_outwards_stay_without_growth():
    asked, _ = walk(lambda k: k, (0, 4), gap=4, limit=21, growth=1)
    assert asked == [0, 4, -4, -8, -12, -16, -20, -21]


@given(st.integers(-60, 60), st.floats(-0.45, 0.45))
def test_finds_the_lowest_position_of_any_parabola(lowest, share):
    asked, found = walk(lambda k: (k - lowest - share) ** 2, (0, 1), gap=1, limit=100)
    assert found == Triple(lowest - 1, lowest, lowest + 1)
    # out in steps that double, back by the parabola
    assert len(asked) <= 2 * math.log2(2 + abs(lowest)) + 4


def test_a_parabola_in_the_middle_takes_three_positions():
    asked, _ = walk(lambda k: k**2, (0, 1), gap=1, limit=100)
    assert asked == [0, 1, -1]


@given(st.integers(-300, 300))
def test_a_cliff_is_approached_to_a_distance_of_one(edge):
    asked, found = walk(lambda k: -float(k) if k <= edge else math.inf, (0, 4), gap=4, limit=400)
    assert (found.centre, found.right) == (edge, edge + 1)
    assert 1 <= found.centre - found.left <= 4
    assert len(asked) <= 25


def test_what_diverges_everywhere_is_followed_downwards():
    _, found = walk(lambda k: math.nan, (0, 1), gap=1, limit=30)
    assert found.left == found.centre == -30


@settings(max_examples=200)
@given(st.dictionaries(st.integers(-40, 40), st.floats()), st.integers(1, 5))
def test_ends_on_any_values_with_the_lowest_between_its_neighbours(given_values, gap):
    values = dict.fromkeys((0, gap), 0.0)
    steps = 0
    while isinstance(found := next_position(values, gap=gap, limit=40), int):
        assert found not in values
        assert abs(found) <= 40
        values[found] = given_values.get(found, 1.0)
        steps += 1
    assert steps <= 81
    heights = {k: v if math.isfinite(v) else math.inf for k, v in values.items()}
    assert heights[found.centre] == min(heights.values())
    assert found.left <= found.centre <= found.right
    assert found.left < found.centre < found.right or abs(found.centre) == 40
