"""Stores: where the runs of a sweep are kept."""
