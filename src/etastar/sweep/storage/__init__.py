"""Stores: where the runs of a sweep are kept."""

from __future__ import annotations

from etastar.sweep.storage.base import MemoryStore, Store
from etastar.sweep.storage.optuna_store import OptunaStore, as_store

__all__ = ["MemoryStore", "OptunaStore", "Store", "as_store"]
