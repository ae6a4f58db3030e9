"""From a path or URL to Optuna's storage object."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from etastar.errors import StorageError
from etastar.sweep.storage.failures import import_optuna
from etastar.sweep.storage.journal import open_journal

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from optuna.storages import BaseStorage, RDBStorage

__all__ = ["connect", "disconnect", "is_url", "quiet_optuna", "shown"]

_ATTEMPTS = 5
_PAUSE = 0.3

_SQLITE_PATIENCE = 60.0
"""Seconds to wait for another process's write; the default of 5 is short for many workers."""


def is_url(location: str | os.PathLike[str]) -> bool:
    """Whether a location is a database's URL; all else is the path of a journal file.

    Args:
        location: A path or URL.

    Returns:
        True for a URL.

    Example:
        >>> is_url("sqlite:///runs.db"), is_url("runs.log")
        (True, False)
    """
    return "://" in str(location)


def shown(location: str | os.PathLike[str]) -> str:
    """The location as messages show it: without a password.

    Args:
        location: A path or URL.

    Returns:
        Text.

    Example:
        >>> shown("postgresql+psycopg2://me:secret@host/db")
        'postgresql+psycopg2://me:***@host/db'
    """
    if not is_url(location):
        return str(location)
    unread = str(location).partition("://")[0] + "://..."
    try:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError:  # which the store itself tells with its extra
        return unread
    try:
        return str(make_url(str(location)).render_as_string(hide_password=True))
    except (ArgumentError, ValueError):
        return unread


def connect(location: str | os.PathLike[str], *, create: bool) -> BaseStorage | None:
    """Optuna's storage at a location.

    Args:
        location: Path of a journal file, or a database's URL.
        create: Whether to make a journal file that is not there.

    Returns:
        The storage; None for a journal that is not there and is not to be made.

    Raises:
        MissingExtraError: Optuna is not installed.
        StorageError: The driver of the URL is not installed, or the file is no journal.
    """
    import_optuna()
    if is_url(location):
        return _connect_database(str(location))
    if not create and not Path(location).exists():
        return None
    return open_journal(location)


def _connect_database(url: str) -> BaseStorage:
    from optuna.storages import get_storage

    for _ in range(_ATTEMPTS - 1):
        database = _database(url, again=True)
        if database is not None:
            return get_storage(database)
        time.sleep(_PAUSE)
    return get_storage(_database(url, again=False))


def _database(url: str, *, again: bool) -> RDBStorage | None:
    """The database; None where `again` and another process is making its tables just now."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import DatabaseError

    options: dict[str, object] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": _SQLITE_PATIENCE}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        raise StorageError(
            f"{shown(url)}, whose driver is not installed",
            "the Python package that the URL names",
            "pip install it: psycopg2-binary for postgresql+psycopg2://",
        ) from error
    except DatabaseError as error:
        if not again or not _is_race(error):
            raise
        return None


def _is_race(error: Exception) -> bool:
    """Whether a table or its first row was there though it was not a moment ago."""
    return any(words in str(error) for words in ("already exists", "UNIQUE", "duplicate key"))


def disconnect(storage: BaseStorage) -> None:
    """Close the connections of this thread and those at rest.

    Args:
        storage: From `connect`.
    """
    storage.remove_session()
    # optuna wraps the database in a cache and has no call that closes the pool of connections
    engine = getattr(getattr(storage, "_backend", None), "engine", None)
    if engine is not None:
        engine.dispose()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Leave out Optuna's line for every study that is made.

    Yields:
        Nothing.
    """
    from optuna import logging

    level = logging.get_verbosity()
    logging.set_verbosity(max(level, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(level)
