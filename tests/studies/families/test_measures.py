"""The measures of a carried rate, at their fixed points and in between."""

from __future__ import annotations

from math import inf, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.families.measures import Best, compute_regret, octaves, relative_regret

_BEST = Best(2.0, 5.0, {0.5: 2.3, 0.25: 2.8})


@pytest.mark.parametrize(("loss", "share"), [(2.0, 1.0), (2.3, 0.5), (2.8, 0.25)])
def test_a_trained_share_is_given_back(loss: float, share: float) -> None:
    assert isclose(compute_regret(loss, _BEST), 1 - share, abs_tol=1e-12)


@given(st.floats(1.5, 4.9), st.floats(1e-6, 0.1))
def test_a_higher_loss_never_costs_less(loss: float, more: float) -> None:
    assert compute_regret(loss + more, _BEST) >= compute_regret(loss, _BEST)
    assert relative_regret(loss + more, _BEST) > relative_regret(loss, _BEST)


def test_a_power_law_of_the_steps_is_read_off_exactly_between_two_of_its_points() -> None:
    def loss(share: float) -> float:  # log-linear: loss falls by 0.3 with each doubling
        from math import log2

        return 2.0 - 0.3 * log2(share)

    best = Best(loss(1), 5.0, {0.5: loss(0.5), 0.25: loss(0.25)})

    for share in (0.9, 0.7, 0.4, 0.3, 0.1):
        assert isclose(compute_regret(loss(share), best), 1 - share)


def test_a_diverged_run_wasted_everything() -> None:
    assert compute_regret(inf, _BEST) == 1
    assert compute_regret(5.0, _BEST) == 1
    assert relative_regret(inf, _BEST) == inf


def test_a_shorter_run_that_is_no_worse_is_passed_over() -> None:
    best = Best(2.0, 5.0, {0.5: 1.9, 0.25: 2.8})

    assert 0 < compute_regret(2.4, best) < 1
    assert compute_regret(2.4, Best(2.0, 5.0, {0.5: 1.9})) == 1


def test_octaves_of_rates_that_no_optimizer_takes() -> None:
    assert octaves(0.0, 0.1) == -inf
    assert octaves(inf, 0.1) == inf
