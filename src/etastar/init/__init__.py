"""Stabilizing initialization with measured gains, and the check that it does stabilize."""
