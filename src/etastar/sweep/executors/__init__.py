"""Executors: where the runs of a sweep run."""

from __future__ import annotations

from etastar.sweep.executors.base import Executor
from etastar.sweep.executors.registry import EXECUTORS, get_executor

__all__ = ["EXECUTORS", "Executor", "get_executor"]
