"""A store from what a caller gives: nothing, a path, a URL, or a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etastar.sweep.storage.base import Store
from etastar.sweep.storage.memory import MemoryStore
from etastar.sweep.storage.optuna_store import OptunaStore

if TYPE_CHECKING:
    import os

__all__ = ["as_store"]


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
