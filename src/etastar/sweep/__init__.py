"""Sweeps: the optimal learning rate of each size, by searches, executors and stores."""

from __future__ import annotations

from etastar.sweep.result import SweepResult
from etastar.sweep.space import Budget, Experiment
from etastar.sweep.study import run_sweep
from etastar.sweep.trial import TrialResult, run_trial

__all__ = ["Budget", "Experiment", "SweepResult", "TrialResult", "run_sweep", "run_trial"]
