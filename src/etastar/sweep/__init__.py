"""Sweeps: the optimal learning rate of each size, by searches, executors and stores."""

from __future__ import annotations

from etastar.sweep.executors import Processes, Ray, Sequential
from etastar.sweep.recipe import Recipe
from etastar.sweep.result import SweepResult
from etastar.sweep.search import Bracket, Grid
from etastar.sweep.study import run_sweep
from etastar.sweep.tune_result import TuneResult
from etastar.sweep.tuning import tune

__all__ = [
    "Bracket",
    "Grid",
    "Processes",
    "Ray",
    "Recipe",
    "Sequential",
    "SweepResult",
    "TuneResult",
    "run_sweep",
    "tune",
]
