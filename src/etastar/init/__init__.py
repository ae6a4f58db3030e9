"""Stabilizing initialization with measured gains, and the check that it does stabilize."""

from etastar.init.fill import initialize_
from etastar.init.gradinit import GradInitReport, gradinit_
from etastar.init.stability import StabilityReport, check_stability

__all__ = [
    "GradInitReport",
    "StabilityReport",
    "check_stability",
    "gradinit_",
    "initialize_",
]
