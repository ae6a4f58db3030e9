"""Stabilizing initialization with measured gains, and the check that it does stabilize."""

from etastar.init.fill import initialize_
from etastar.init.stability import StabilityReport, check_stability

__all__ = ["StabilityReport", "check_stability", "initialize_"]
