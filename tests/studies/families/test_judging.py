"""A rule's rate at the target, by the four measures, from runs that are there."""

from __future__ import annotations

from math import inf, isclose, log
from typing import TYPE_CHECKING

import numpy as np

from studies.families.declared import FAMILIES, SCALES
from studies.families.judging import SHARES, chance_to_hold, outcomes, rule_summaries
from studies.families.rules import Offer
from studies.families.runs import FamilyRun, RunFile

if TYPE_CHECKING:
    from pathlib import Path

_SMOKE = SCALES["smoke"]
_FAMILY = next(family for family in FAMILIES if family.name == "mlp-relu")


def _runs(folder: Path) -> RunFile:
    """Parabolas with the optimum at 2^-6 (base) and 2^-7 (target), which ends at a loss of 1."""
    file = RunFile(_FAMILY, _SMOKE, folder)
    file.path.parent.mkdir(parents=True, exist_ok=True)
    for depth, optimum in ((2, -6), (4, -7)):
        for power in range(optimum - 3, optimum + 4):
            _write(file, depth, _SMOKE.num_steps, power, 1 + 0.1 * (power - optimum) ** 2)
    for share, loss in zip(SHARES, (1.2, 1.6), strict=True):
        _write(file, 4, round(share * _SMOKE.num_steps), -7, loss)
    return file


def _write(file: RunFile, depth: int, steps: int, power: int, loss: float) -> None:
    for seed in _SMOKE.seeds:
        file._append(FamilyRun("own", depth, steps, 2.0**power, seed, loss, 3.0, steps))


def test_an_octave_too_high_is_measured_as_the_curve_has_it(tmp_path: Path) -> None:
    offer = Offer("one rate", "own", 2.0**-6, 1.5, interval=(2.0**-7.5, 2.0**-6.5))

    (found,) = outcomes(_runs(tmp_path), 4, [offer])

    assert isclose(found.relative, 0.1 / 2)
    assert isclose(found.compute, 1 - 2**-0.5)  # halfway in loss to half of the steps
    assert found.octaves is not None
    assert isclose(found.octaves, 1, rel_tol=1e-6)
    assert found.held
    assert found.well_posed


def test_a_rate_that_no_optimizer_takes_counts_as_diverged(tmp_path: Path) -> None:
    (found,) = outcomes(_runs(tmp_path), 4, [Offer("broken", "own", inf, 0.0)])

    assert (found.relative, found.compute, found.held) == (inf, 1.0, None)


def test_a_rate_that_was_not_trained_is_no_outcome(tmp_path: Path) -> None:
    assert outcomes(_runs(tmp_path), 4, [Offer("one rate", "own", 0.0123, 0.0)]) == ()


def test_without_the_shorter_runs_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    file = _runs(tmp_path)
    whole = [line for line in file.path.read_text().splitlines() if '"num_steps": 4' in line]
    file.path.write_text("\n".join(whole) + "\n")

    assert outcomes(file, 4, [Offer("one rate", "own", 2.0**-6, 0.0)]) == ()


def test_rules_are_summed_up_over_their_well_posed_cases(tmp_path: Path) -> None:
    file = _runs(tmp_path)
    offers = [Offer("a", "own", 2.0**-7, 1.0), Offer("a", "own", 2.0**-6, 3.0)]

    (found,) = rule_summaries(outcomes(file, 4, offers))

    assert (found.rule, found.cases, found.near, found.held) == ("a", 2, (1, 2), (0, 0))
    assert isclose(found.relative[1], 0.05)
    assert found.cost == 2.0


def test_true_intervals_hold_as_many_measured_optima_as_are_expected() -> None:
    generator, interval, error = np.random.default_rng(1), (0.1, 0.4), 0.3
    sd = log(interval[1] / interval[0]) / 2 / 1.96
    middle = log(interval[0] * interval[1]) / 2
    true = middle + sd * generator.standard_normal(100_000)
    measured = np.exp(true + error * generator.standard_normal(100_000))

    held = ((interval[0] <= measured) & (measured <= interval[1])).mean()

    assert isclose(held, chance_to_hold(interval, error), abs_tol=0.005)


def test_expected_holds_are_summed_over_the_cases_that_have_an_interval(tmp_path: Path) -> None:
    wide, narrow = (2.0**-17, 2.0**3), (2.0**-7.0001, 2.0**-6.9999)
    offers = [Offer("a", "own", 2.0**-7, 1.0, interval=one) for one in (wide, narrow, None)]

    (found,) = rule_summaries(outcomes(_runs(tmp_path), 4, offers))

    assert found.held == (2, 2)
    assert isclose(found.expected, 0.95, abs_tol=0.01)  # the optimum's error is far wider than one
