"""Training runs: one trial, on which sweeps are built."""

from __future__ import annotations

from etastar.sweep.trial import TrialResult, run_trial

__all__ = ["TrialResult", "run_trial"]
