"""Sweeps and fits on a terminal."""

import io

from rich.console import Console

from etastar.fit import find_optimum, fit_power_law
from etastar.report.sweep_table import fit_table, progress_text, sweep_table
from etastar.sweep.progress import Progress
from etastar.sweep.record import TrialRecord
from etastar.sweep.result import SizeResult, SweepResult
from etastar.sweep.space import Point

SIZES = [(("depth", k),) for k in (2, 8)]


def shown(renderable):
    console = Console(width=120, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


def optimum(lr, seeds=1):
    return find_optimum([lr / 2, lr, 2 * lr], [[1.0] * seeds, [0.5] * seeds, [1.0] * seeds])


def test_sweep_table():
    trial = TrialRecord(SIZES[0], Point(0.1, 0), 0.5, (0.5,) * 7, False, 7, 1.0)
    bad = TrialRecord(SIZES[1], Point(0.1, 0), float("inf"), (9.0,), True, 3, 1.0)
    result = SweepResult(
        (SizeResult(SIZES[0], (trial,), optimum(0.125)), SizeResult(SIZES[1], (bad,), None))
    )
    text = shown(sweep_table(result))
    assert "10 steps in all" in text
    assert "0.125" in text
    assert "one seed" in text
    assert "no optimum" in text


def test_fit_table():
    optima = [optimum(0.25, seeds=2), optimum(0.0625, seeds=2)]
    fit = fit_power_law([2, 8], optima)
    text = shown(fit_table(fit, tuple(zip(SIZES, (2.0, 8.0), optima, strict=True))))
    assert "depth^-1.000" in text
    assert "0.25" in text
    assert "depth=8" in text


def test_progress():
    state = Progress(SIZES[0], 3, 1, 30, (0.1, 0.5), (0.05, None))
    assert progress_text(state) == "depth=2  0.05 to ?  lowest 0.5 at 0.1"
    assert progress_text(Progress(SIZES[0], 0, 1, 0, None, (None, None))) == "depth=2  ? to ?"
