"""The README's figure is drawn from stored runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studies.families.drift import draw_drift, drift_curves

if TYPE_CHECKING:
    from pathlib import Path


def test_the_best_rate_drifts_with_depth_under_the_networks_own_initialization() -> None:
    curves = drift_curves("resnet-bn", "own")

    assert list(curves) == [1, 2, 4, 8]
    best = [curve.best[0] for curve in curves.values()]
    assert best == sorted(best, reverse=True)
    assert best[0] >= 4 * best[-1]


def test_the_same_runs_draw_the_same_figure(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_drift(tmp_path / name, "resnet-bn", "own", "again")

    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert text.count("<path") > 8  # eight curves, and their axes
