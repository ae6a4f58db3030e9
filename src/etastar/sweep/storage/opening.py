"""A store from what a caller gives: nothing, a path, a URL, or a store."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from etastar.sweep.storage.base import Store
from etastar.sweep.storage.memory import MemoryStore
from etastar.sweep.storage.optuna_store import OptunaStore

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["as_store", "journal_name"]


def as_store(storage: Store | str | os.PathLike[str] | None, *, name: str = "sweep") -> Store:
    """The store that a caller means; it is not opened yet.

    Args:
        storage: A store, the path of a journal file, a database's URL, or None for memory.
        name: Of the experiment, where the store is to be made.

    Returns:
        The store.

    Raises:
        StorageError: The name does not fit.

    Example:
        >>> type(as_store(None)).__name__, type(as_store("runs.log")).__name__
        ('MemoryStore', 'OptunaStore')
    """
    if storage is None:
        return MemoryStore()
    return storage if isinstance(storage, Store) else OptunaStore(storage, name=name)


def journal_name(settings: Mapping[str, str]) -> str:
    """Name of a journal file for an experiment, where a user gives none.

    Args:
        settings: All that tells the experiment from another.

    Returns:
        A name that is the same for the same settings alone.

    Example:
        >>> journal_name({"model": "zoo:mlp"}), journal_name({"model": "zoo:gpt"})
        ('sweep-3382b59c.log', 'sweep-c8d496c8.log')
    """
    text = json.dumps(sorted(settings.items()))
    return f"sweep-{hashlib.sha256(text.encode()).hexdigest()[:8]}.log"
