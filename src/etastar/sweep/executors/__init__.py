"""Executors: where the runs of a sweep run."""

from __future__ import annotations

from etastar.sweep.executors.base import Executor, Sequential
from etastar.sweep.executors.processes import Processes
from etastar.sweep.executors.ray import Ray

__all__ = ["Executor", "Processes", "Ray", "Sequential"]
