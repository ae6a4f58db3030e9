"""Random effects: moments by hand, a dense twin, and how often the interval holds a new family."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.fit.bootstrap import student_quantile
from etastar.fit.random_effects import random_effects

numbers = st.floats(-3, 3)
members = st.lists(st.tuples(numbers, st.floats(0.05, 1)), min_size=1, max_size=4)


def test_equal_errors_give_the_moments_of_the_textbook():
    """With equal s, tau^2 is the variance between members less s^2."""
    rows = [(y, 0.1) for y in (-1.0, -0.7, -0.1, 0.2)]
    found = random_effects({"a": rows})
    y = [value for value, _ in rows]
    assert found.spread**2 == pytest.approx(np.var(y, ddof=1) - 0.01)
    mean, sd = found.means["a"]
    assert mean == pytest.approx(np.mean(y))
    assert sd == pytest.approx(np.std(y, ddof=1) / 2)
    center, wide = found.predictive("a")
    reach = student_quantile(0.975, 3) * math.sqrt(1.25 * np.var(y, ddof=1) - 0.01)
    assert (center, 1.959964 * wide) == (pytest.approx(mean), pytest.approx(reach, rel=1e-6))


@settings(deadline=None, max_examples=50)
@given(st.lists(members, min_size=1, max_size=4).filter(lambda g: max(map(len, g)) > 1))
def test_the_moments_agree_with_projections_of_a_dense_design(groups):
    """Q = y' P y and E[Q] = f + tau^2 tr P, P = W - W X (X' W X)^-1 X' W."""
    flat = [(k, *row) for k, rows in enumerate(groups) for row in rows]
    x = np.eye(len(groups))[[k for k, _, _ in flat]]
    y, w = np.array([v for _, v, _ in flat]), np.diag([s**-2 for _, _, s in flat])
    projection = w - w @ x @ np.linalg.inv(x.T @ w @ x) @ x.T @ w
    variance = max(0.0, (y @ projection @ y - (len(y) - len(groups))) / np.trace(projection))
    found = random_effects(dict(enumerate(groups)))
    assert found.spread**2 == pytest.approx(variance, rel=1e-6, abs=1e-9)
    weights = np.diag(1 / (1 / np.diag(w) + variance))
    means = np.linalg.solve(x.T @ weights @ x, x.T @ weights @ y)
    assert [mean for mean, _ in found.means.values()] == pytest.approx(list(means), abs=1e-9)


def test_one_spread_serves_all_groups():
    groups = {"a": [(0.0, 0.01), (1.0, 0.01)], "b": [(5.0, 0.01), (6.0, 0.01)], "c": [(9.0, 0.01)]}
    found = random_effects(groups)
    assert found.freedom == 2
    assert found.spread == pytest.approx(math.sqrt(0.5), rel=1e-3)
    assert found.predictive("c")[0] == 9.0
    assert found.predictive("c")[1] > found.predictive("a")[1]


def test_errors_that_explain_all_leave_no_spread():
    found = random_effects({"a": [(0.0, 1.0), (0.1, 1.0), (-0.1, 1.0)]})
    assert found.spread == 0.0
    assert found.means["a"][1] == pytest.approx(3**-0.5)


@pytest.mark.parametrize("spread", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("errors", [(0.03, 0.1), (0.1, 0.3)])
@pytest.mark.parametrize("sizes", [(2, 3), (2, 3, 2, 4), (2, 2, 3, 2, 2, 3, 4)])
def test_the_interval_holds_a_new_family_as_often_as_it_says(spread, errors, sizes):
    generator = np.random.default_rng([len(sizes), int(100 * spread), int(100 * errors[0])])
    held = []
    for _ in range(150):
        truth = generator.normal(-0.7, 0.6, len(sizes))
        groups = {}
        for k, (mean, size) in enumerate(zip(truth, sizes, strict=True)):
            sds = generator.uniform(*errors, size)
            groups[k] = list(zip(generator.normal(mean, np.hypot(spread, sds)), sds, strict=True))
        found = random_effects(groups)
        for k, mean in enumerate(truth):
            center, sd = found.predictive(k)
            held.append(abs(generator.normal(mean, spread) - center) <= 1.96 * sd)
    assert 0.88 <= np.mean(held) <= 1.0
