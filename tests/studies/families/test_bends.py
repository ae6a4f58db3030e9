"""Whether optima leave a straight line over log depth."""

from __future__ import annotations

import numpy as np
import pytest

from studies.families.bends import Bend, bend, bends_section, common_bend

_DEPTHS = np.array([3.0, 5.0, 9.0, 17.0])


def test_a_power_law_does_not_bend() -> None:
    found = bend(_DEPTHS.tolist(), (0.1 * _DEPTHS**-1.5).tolist(), [0.1, 0.3, 0.2, 0.1])

    assert found is not None
    assert found.value == pytest.approx(0, abs=1e-12)


def test_the_bend_is_the_change_of_the_exponent_when_the_depth_doubles() -> None:
    def log_lr(depth: float) -> float:
        return float(-0.3 * np.log(depth) - 0.2 * np.log(depth) ** 2)

    def slope(depth: float) -> float:
        return (log_lr(depth * 1.001) - log_lr(depth / 1.001)) / (2 * np.log(1.001))

    lrs = [np.exp(log_lr(depth)) for depth in _DEPTHS]
    found = bend(_DEPTHS.tolist(), lrs, [0.1] * 4)

    assert found is not None
    assert found.value == pytest.approx(slope(8.0) - slope(4.0), rel=1e-6)


def test_its_error_is_how_much_noise_of_the_optima_moves_it() -> None:
    generator, sds = np.random.default_rng(0), [0.1, 0.4, 0.2, 0.3]
    noise = generator.standard_normal((4000, 4)) * sds

    values = [bend(_DEPTHS.tolist(), np.exp(row).tolist(), sds) for row in noise]

    stated = {round(one.sd, 9) for one in values if one is not None}
    assert len(stated) == 1
    spread = np.std([one.value for one in values if one is not None])
    assert spread == pytest.approx(stated.pop(), rel=0.05)


def test_two_depths_do_not_bend() -> None:
    assert bend([2, 4], [0.1, 0.05], [0.1, 0.1]) is None


def test_families_that_bend_alike_leave_no_misfit_and_others_leave_one() -> None:
    alike = common_bend([Bend(-0.4, 0.1), Bend(-0.4, 0.3)])
    apart = common_bend([Bend(-1.0, 0.1), Bend(1.0, 0.1)])

    assert (alike.mean, alike.misfit) == (pytest.approx(-0.4), pytest.approx(0))
    assert apart.misfit == pytest.approx(200)  # (1 / 0.1)^2 on either side


def test_the_section_sums_up_the_own_initialization_alone() -> None:
    text = bends_section({("gpt", "own"): Bend(0.2, 0.1), ("gpt", "complete-p"): Bend(9.0, 0.1)})

    assert "1 families have +0.20 ± 0.10 in common" in text
    assert "| gpt | complete-p | +9.00 ± 0.10 |" in text
    assert bends_section({}) == ""
