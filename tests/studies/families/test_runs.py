"""Runs are kept one by one, never twice, and curves are read off them."""

from __future__ import annotations

from math import inf, isclose, log
from typing import TYPE_CHECKING

import pytest

from studies.families.curves import FamilyCurves, weighted_slope
from studies.families.declared import FAMILIES, SCALES, families_of
from studies.families.runs import FamilyRun, RunFile
from studies.families.stages import curve, jobs, start_power

if TYPE_CHECKING:
    from pathlib import Path

_FAMILY = next(family for family in FAMILIES if family.name == "mlp-relu")
_SMOKE = SCALES["smoke"]


def test_a_curve_that_was_cut_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    curve(file, "own", 2)
    whole = file.path.read_text()
    lines = whole.splitlines(keepends=True)
    file.path.write_text("".join(lines[:3]) + lines[3][:20])  # killed while writing

    curve(file, "own", 2)

    again = file.path.read_text().splitlines(keepends=True)
    assert set(again[3:]) | set(lines[:3]) >= set(lines)
    assert len(file.read()) == len(lines)


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    curve(file, "own", 2)
    before = file.path.read_text()

    curve(file, "own", 2)

    assert file.path.read_text() == before


def test_a_larger_size_starts_at_the_optimum_of_the_smaller_one(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    _write(file, "own", 2, optimum=-9)

    assert start_power(file, "own", 4) == -9
    assert start_power(file, "stabilized", 2) == -9
    assert start_power(RunFile(_FAMILY, _SMOKE, tmp_path / "empty"), "own", 2) == _FAMILY.start


def test_the_exponent_of_exact_optima_is_found_with_the_error_of_its_points(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    _write(file, "own", 2, optimum=-6)  # effective depths 3 and 5
    _write(file, "own", 4, optimum=-7)

    found = FamilyCurves(file).exponent("own")

    assert found is not None
    assert found.depths == (3, 5)
    assert isclose(found.value, -log(2) / log(5 / 3), rel_tol=1e-9)
    assert isclose(found.by_blocks, -1, rel_tol=1e-9)
    assert isclose(found.sd, 0.15 * 2**0.5 / log(5 / 3), rel_tol=1e-9)
    assert not found.well_posed  # sizes of a factor of two


def test_an_exponent_goes_through_the_well_posed_sizes_alone(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, SCALES["cpu"], tmp_path)
    for depth, optimum in ((2, -6), (4, -7), (8, -8)):
        _write(file, "own", depth, optimum=optimum)
    _write(file, "own", 16, optimum=-3, second=-12)

    found = FamilyCurves(file).exponent("own")

    assert found is not None
    assert found.blocks == (2, 4, 8)
    assert found.well_posed
    assert isclose(found.by_blocks, -1, rel_tol=1e-9)


def test_seeds_that_disagree_make_a_size_ill_posed(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    _write(file, "own", 2, optimum=-6)
    _write(file, "own", 4, optimum=-7, second=-5)

    curves = FamilyCurves(file)

    assert curves.well_posed("own", 2)
    assert curves.well_posed("own", 4) is False


def test_a_size_that_learns_nothing_beside_the_base_is_ill_posed(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    _write(file, "own", 2, optimum=-6)
    _write(file, "own", 4, optimum=-7, gain=0.01)

    assert FamilyCurves(file).well_posed("own", 4) is False


def test_rates_that_a_rule_proposed_are_not_of_the_grid(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    _write(file, "own", 2, optimum=-6)
    before = FamilyCurves(file).base
    for seed in _SMOKE.seeds:
        file._append(FamilyRun("own", 2, _SMOKE.num_steps, 0.0123, seed, 0.0, 3.0, 4))

    after = FamilyCurves(file).base

    assert before == after


def test_a_rate_that_a_rule_proposed_on_the_grid_by_chance_is_no_curve(tmp_path: Path) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    _write(file, "own", 2, optimum=-6)
    for seed in _SMOKE.seeds:
        file._append(FamilyRun("stabilized", 4, _SMOKE.num_steps, 2.0**-5, seed, 0.0, 3.0, 4))

    assert FamilyCurves(file).curve("stabilized", 4) is None


def test_every_family_of_a_scale_has_its_jobs_once() -> None:
    scale = SCALES["cpu"]
    every = [job for chain in jobs(scale) for job in chain]

    assert len(every) == len(set(every))
    own = {(name, depth) for name, parametrization, depth in every if parametrization == "own"}
    assert own == {(f.name, depth) for f in families_of(scale) for depth in f.sizes(scale)}


def test_the_slope_of_points_of_unlike_error_leans_on_the_sure_ones() -> None:
    slope, _ = weighted_slope([0.0, 1.0, 2.0], [0.0, -1.0, 5.0], [0.01, 0.01, 10.0])

    assert slope == pytest.approx(-1, abs=0.01)


def _write(
    file: RunFile,
    parametrization: str,
    depth: int,
    *,
    optimum: int,
    second: int | None = None,
    gain: float = 2.0,
) -> None:
    """Parabolas in log2 of the rate, one for each seed, of which the last may have another."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    for seed in file.scale.seeds:
        centre = optimum if second is None or seed == 0 else second
        for power in range(optimum - 4, optimum + 5):
            loss = 3.0 - gain + 0.01 * (power - centre) ** 2
            diverged = power - optimum == 4
            file._append(
                FamilyRun(
                    parametrization,  # type: ignore[arg-type]
                    depth,
                    file.scale.num_steps,
                    2.0**power,
                    seed,
                    inf if diverged else loss,
                    3.0,
                    file.scale.num_steps,
                )
            )


def test_what_a_parametrization_gains_more_is_a_share_of_what_the_network_gains(
    tmp_path: Path,
) -> None:
    file = RunFile(_FAMILY, _SMOKE, tmp_path)
    for depth in (2, 4):
        _write(file, "own", depth, optimum=-6)
        _write(file, "complete-p", depth, optimum=-6, gain=2.1)

    curves = FamilyCurves(file)

    assert isclose(curves.advantage("complete-p") or 0, 0.05)
    assert curves.advantage("own") is None
    assert curves.advantage("depth-mup") is None
