"""Executors: where the runs of a sweep run."""

from __future__ import annotations

from etastar.sweep.executors.processes import Executor, Processes, Sequential
from etastar.sweep.executors.ray import Ray

__all__ = ["Executor", "Processes", "Ray", "Sequential"]
