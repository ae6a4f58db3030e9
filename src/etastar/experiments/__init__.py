"""Named experiments, from settings that are fixed beforehand to a result that keeps every run."""

from __future__ import annotations

from etastar.experiments.demo import run_demo

__all__ = ["run_demo"]
