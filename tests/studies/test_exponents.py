"""Exponents of optima that are known, and intervals against reference formulas."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etastar.fit import find_optimum
from studies.exponents import NOISE, exponent_fit

RATES = np.geomspace(1e-4, 10, 26)


def parabola(lr, *, shifts=(0.0,)):
    """An optimum at `lr`, each seed's own shifted by so much in log."""
    losses = np.stack([np.log(RATES / lr) ** 2 - 2 * s * np.log(RATES) for s in shifts], 1)
    return find_optimum(RATES, losses)


@given(st.floats(-2, 0.5), st.permutations([2.0, 4.0, 8.0, 16.0]))
def test_a_power_law_gives_its_exponent_in_any_order(exponent, values):
    fit = exponent_fit("x", values, [parabola(0.1 * v**exponent) for v in values])
    assert fit.exponent == pytest.approx(exponent, abs=1e-6)
    assert [one.exponent for one in fit.neighbours] == pytest.approx([exponent] * 3, abs=1e-6)
    assert [one.from_value for one in fit.neighbours] == [2.0, 4.0, 8.0]
    assert fit.flags == ()


def test_the_scatter_interval_is_that_of_ordinary_least_squares():
    values, lrs = [2.0, 4.0, 8.0, 16.0], [0.1, 0.03, 0.02, 0.004]
    fit = exponent_fit("x", values, [parabola(lr) for lr in lrs])
    x, y = np.log(values), np.log(lrs)
    design = np.stack([np.ones(4), x], 1)
    solution, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = np.sqrt(residual[0] / 2 * np.linalg.inv(design.T @ design)[1, 1])
    low, high = fit.scatter_interval
    assert fit.exponent == pytest.approx(solution[1], abs=1e-6)
    assert (high - low) / 2 == pytest.approx(4.303 * error, rel=1e-5)  # Student, 2 degrees


def test_the_interval_is_the_hull_of_both():
    fit = exponent_fit("x", [2, 4, 8], [parabola(lr, shifts=(0, 0.3)) for lr in (0.1, 0.05, 0.02)])
    ends = (*fit.seed_interval, *fit.scatter_interval)
    assert fit.interval == (min(ends), max(ends))
    assert fit.as_dict()["interval"] == fit.interval


def test_seeds_that_happen_to_agree_do_not_take_the_whole_fit():
    def known(lr, sd):
        reach = np.exp(1.959964 * sd)
        return replace(parabola(lr), interval=(lr / reach, lr * reach))

    optima = [known(0.1, 0.001), known(0.04, NOISE), known(0.03, NOISE)]
    fit = exponent_fit("x", [2, 4, 8], optima)
    equal = exponent_fit("x", [2, 4, 8], [parabola(lr) for lr in (0.1, 0.04, 0.03)])
    assert fit.exponent == pytest.approx(equal.exponent, abs=0.02)


def test_two_sizes_have_no_scatter_and_say_so():
    fit = exponent_fit("x", [2, 4], [parabola(0.1), parabola(0.05)])
    assert fit.scatter_interval is None
    assert fit.interval is None
    assert fit.flags == ("two sizes",)


def test_a_size_without_an_optimum_is_left_out_and_flagged():
    fit = exponent_fit("x", [2, 4, 8], [parabola(0.1), None, parabola(0.025)])
    assert fit.exponent == pytest.approx(-1.0, abs=1e-6)
    assert fit.flags == ("no optimum", "two sizes")


def test_an_optimum_at_the_edge_is_kept_and_flagged():
    edge = find_optimum([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    assert exponent_fit("x", [2, 4, 8], [edge, parabola(0.5), parabola(0.25)]).flags == ("edge",)


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0]])
def test_one_place_on_the_axis_has_no_exponent(values):
    assert exponent_fit("x", values, [parabola(0.1)] * len(values)) is None
