"""The demo: every rule at the deep network, regret against the lowest loss there."""

import math

import pytest

from etastar.demo import compare_rules


@pytest.fixture(scope="module")
def rows():
    return compare_rules((2, 4), num_steps=4, rates=(1 / 512, 1 / 128))


@pytest.mark.slow
def test_every_rule_has_a_rate_and_a_regret(rows):
    assert [row["rule"] for row in rows] == ["best of a grid", "one rate", "-3/2", "default choice"]
    assert min(row["relative_regret"] for row in rows) == 0
    assert all(math.isfinite(row["relative_regret"]) for row in rows)


@pytest.mark.slow
def test_rates_are_those_of_the_rules(rows):
    lrs = {row["rule"]: row["lr"] for row in rows}
    assert lrs["-3/2"] / lrs["one rate"] == pytest.approx((6 / 10) ** 1.5)
    low, high = rows[-1]["interval"]
    assert low < lrs["default choice"] < high
    assert [row.get("interval") for row in rows[:-1]] == [None] * 3
