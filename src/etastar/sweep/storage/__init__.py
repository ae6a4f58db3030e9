"""Stores: where the runs of a sweep are kept."""

from __future__ import annotations

from etastar.sweep.storage.base import Store
from etastar.sweep.storage.memory import MemoryStore
from etastar.sweep.storage.opening import as_store
from etastar.sweep.storage.optuna_store import OptunaStore

__all__ = ["MemoryStore", "OptunaStore", "Store", "as_store"]
