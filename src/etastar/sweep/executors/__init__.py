"""Executors: where the runs of a sweep run."""
