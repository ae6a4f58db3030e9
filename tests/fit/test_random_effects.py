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
    y = [value for value, _ in rows]
    mean, wide = random_effects({"a": rows})["a"]
    assert mean == pytest.approx(np.mean(y))
    reach = student_quantile(0.975, 3) * math.sqrt(1.25 * np.var(y, ddof=1) - 0.01)
    assert 1.959964 * wide == pytest.approx(reach, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(members, min_size=1, max_size=4).filter(lambda g: max(map(len, g)) > 1))
def test_the_moments_agree_with_projections_of_a_dense_design(groups):
    """Q = y' P y and E[Q] = f + tau^2 tr P, P = W - W X (X' W X)^-1 X' W."""
    flat = [(k, *row) for k, rows in enumerate(groups) for row in rows]
    x = np.eye(len(groups))[[k for k, _, _ in flat]]
    y, w = np.array([v for _, v, _ in flat]), np.diag([s**-2 for _, _, s in flat])
    projection = w - w @ x @ np.linalg.inv(x.T @ w @ x) @ x.T @ w
    variance = max(0.0, (y @ projection @ y - (len(y) - len(groups))) / np.trace(projection))
    found = list(random_effects(dict(enumerate(groups))).values())
    weights = np.diag(1 / (1 / np.diag(w) + variance))
    means = np.linalg.solve(x.T @ weights @ x, x.T @ weights @ y)
    assert [mean for mean, _ in found] == pytest.approx(list(means), abs=1e-9)
    wider = student_quantile(0.975, len(y) - len(groups)) / 1.959963985
    sds = wider * np.sqrt(variance + np.diag(np.linalg.inv(x.T @ weights @ x)))
    assert [sd for _, sd in found] == pytest.approx(list(sds), rel=1e-6)


def test_one_spread_serves_all_groups():
    groups = {"a": [(0.0, 0.01), (1.0, 0.01)], "b": [(5.0, 0.01), (6.0, 0.01)], "c": [(9.0, 0.01)]}
    found = random_effects(groups)
    wider = student_quantile(0.975, 2) / 1.959963985
    assert found["a"][1] == pytest.approx(wider * math.sqrt(0.5 + 0.25), rel=1e-3)
    assert found["c"] == (9.0, pytest.approx(wider * math.sqrt(0.5 + 0.5), rel=1e-3))


def test_errors_that_explain_all_leave_no_spread():
    _, sd = random_effects({"a": [(0.0, 1.0), (0.1, 1.0), (-0.1, 1.0)]})["a"]
    assert sd == pytest.approx(3**-0.5 * student_quantile(0.975, 2) / 1.959963985)


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
            center, sd = found[k]
            held.append(abs(generator.normal(mean, spread) - center) <= 1.96 * sd)
    assert 0.88 <= np.mean(held) <= 1.0
