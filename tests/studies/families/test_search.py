"""The window of rates: it encloses the lowest loss, and asks for nothing twice."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from studies.families.search import Window, next_powers


def _searched(loss_at: dict[int, float] | None, start: int, optimum: int) -> dict[int, list[float]]:
    losses: dict[int, list[float]] = {}
    for _ in range(60):
        powers = next_powers(start, losses)
        if not powers:
            return losses
        assert not set(powers) & set(losses)
        for power in powers:
            value = float((power - optimum) ** 2) if loss_at is None else loss_at.get(power, inf)
            losses[power] = [value, value]
    raise AssertionError("the search did not end")


@given(start=st.integers(-18, 2), optimum=st.integers(-18, 2))
def test_a_parabola_is_enclosed_wherever_the_search_starts(start: int, optimum: int) -> None:
    losses = _searched(None, start, optimum)

    assert {optimum - 2, optimum - 1, optimum, optimum + 1} <= set(losses)


def test_a_start_where_everything_diverges_leads_down_to_rates_that_do_not() -> None:
    stable = {power: float(-power) for power in range(-22, -9)}

    losses = _searched(stable, 0, 0)

    assert losses[-10] == [10.0, 10.0]
    assert losses[-9] == [inf, inf]
    assert {-11, -12} <= set(losses)


def test_one_diverged_seed_makes_a_rate_the_end_of_the_range() -> None:
    losses = {-3: [2.0, 2.0], -2: [1.0, 1.0], -1: [0.1, inf], -4: [3.0, 3.0]}

    assert next_powers(-2, losses) == ()


def test_a_network_that_diverges_everywhere_ends_at_the_least_rate() -> None:
    losses: dict[int, list[float]] = {}
    while powers := next_powers(-1, losses, Window(least=-6)):
        losses |= {power: [inf] for power in powers}

    assert min(losses) == -6
