"""Stabilizing initialization with measured gains, and the check that it does stabilize."""

from etastar.init.fill import initialize_
from etastar.init.stability import check_stability
from etastar.init.stability_report import StabilityReport

__all__ = ["StabilityReport", "check_stability", "initialize_"]
