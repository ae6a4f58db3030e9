"""Stabilizing initialization with measured gains, and the check that it does stabilize."""

from etastar.init.fill import initialize_
from etastar.init.stability import check_stability, check_stability_over

__all__ = [
    "check_stability",
    "check_stability_over",
    "initialize_",
]
