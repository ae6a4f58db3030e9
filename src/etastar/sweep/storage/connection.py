"""From a path or URL to Optuna's storage, and from what fails below it to one kind of error."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from etastar.errors import EtastarError, MissingExtraError, StorageError, cause_of, warnings_ignored
from etastar.sweep.storage.journal import open_journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy.engine import Connection

__all__ = [
    "GRACE_SECONDS",
    "HEARTBEAT_SECONDS",
    "connect",
    "disconnect",
    "quiet_optuna",
    "seconds_silent",
    "shown_location",
    "storage_errors",
]

HEARTBEAT_SECONDS = 15
"""Between two signs of life in a database."""
GRACE_SECONDS = 60
"""Without any, after which a run's process is dead."""

_VERBOSITY = threading.RLock()
_ATTEMPTS = 5
_PAUSE = 0.3
_SQLITE_PATIENCE = 60.0
"""Seconds to wait for another process's write; the default of 5 is short for many workers."""

_CONNECT_PATIENCE = 15
"""Seconds in which an address of a server has to answer."""
_TIMED_DRIVERS = ("psycopg2", "psycopg", "mysqldb", "pymysql")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_WORDS = ("disk is full", "No space left on device")  # SQLite's and PostgreSQL's
_AWAY_WORD = "connection"  # in whatever way PostgreSQL or MySQL is not there, or no longer
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def shown_location(location: str | os.PathLike[str]) -> str:
    """The location as messages show it: without a password, wherever in a URL it stands.

    Args:
        location: A path or URL.

    Returns:
        Text.

    Example:
        >>> shown_location("postgresql+psycopg2://me:secret@host/db?password=secret")
        'postgresql+psycopg2://me:***@host/db?...'
    """
    if "://" not in str(location):
        return str(location)
    try:
        from sqlalchemy.engine import make_url

        url = make_url(str(location))
    except Exception:  # no URL, or no SQLAlchemy, which the store itself tells with its extra
        return str(location).partition("://")[0] + "://..."
    plain = str(url.set(query={}).render_as_string(hide_password=True))
    return f"{plain}?..." if url.query else plain


def connect(location: str | os.PathLike[str], *, create: bool) -> BaseStorage | None:
    """Optuna's storage at a location.

    Args:
        location: Path of a journal file, or a database's URL.
        create: Whether to make a store that is not there.

    Returns:
        The storage; None for one that is not there and is not to be made.

    Raises:
        StorageError: The driver of the URL is not installed, or the file is no journal.
    """
    if "://" not in str(location):
        return open_journal(location) if create or Path(location).exists() else None
    from optuna.storages import get_storage
    from sqlalchemy.exc import DatabaseError

    if not (create or _is_there(str(location))):
        return None
    for left in reversed(range(_ATTEMPTS)):
        try:
            return get_storage(_database(str(location)))
        except DatabaseError as error:
            if not left or not _is_race(error):
                raise
        time.sleep(_PAUSE)
    raise AssertionError("the last attempt returns or raises")


def _is_there(url: str) -> bool:
    """Whether a file of SQLite is there; a server is."""
    place = url.partition(":///")[2].partition("?")[0]
    is_file = url.startswith("sqlite") and place not in ("", ":memory:")
    return not is_file or place.startswith("file:") or Path(place).exists()


def _database(url: str) -> RDBStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy import event
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    options: dict[str, object] = {"pool_pre_ping": True}
    try:
        read = make_url(url)
    except Exception:  # whose message has parts of the URL: of its password too
        raise StorageError(
            f"{shown_location(url)}, a URL that cannot be read",
            "driver://user:password@host:port/database",
            "write signs such as @ / : in a password as %40 %2F %3A, or give ?password=...",
        ) from None
    is_sqlite = read.get_backend_name() == "sqlite"
    try:
        if is_sqlite:
            options["connect_args"] = {"timeout": _SQLITE_PATIENCE, "isolation_level": None}
        elif read.get_driver_name() in _TIMED_DRIVERS and "connect_timeout" not in read.query:
            options["connect_args"] = {"connect_timeout": _CONNECT_PATIENCE}
        with quiet_optuna():
            database = RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=min(GRACE_SECONDS, 4 * HEARTBEAT_SECONDS),
            )
    except (ImportError, ArgumentError) as error:
        raise StorageError(
            f"{shown_location(url)}, whose driver is not installed or not known",
            "the Python package that the URL names",
            "pip install it: psycopg2-binary for postgresql+psycopg2://",
        ) from error
    if is_sqlite:
        event.listen(database.engine, "begin", _lock_at_once)
    return database


def _lock_at_once(connection: Connection) -> None:
    """SQLite has no lock for a row: without, two processes read that one point is WAITING."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


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


def seconds_silent(storage: BaseStorage, trial_id: int) -> float:
    """How long ago, by a database's own clock, a running trial's heartbeat was recorded."""
    from sqlalchemy import DateTime, column, func, select, table

    beats = table("trial_heartbeats", column("trial_id"), column("heartbeat", DateTime))
    ask = select(func.now(), beats.c.heartbeat).where(beats.c.trial_id == trial_id)
    database = getattr(storage, "_backend", storage)  # optuna wraps it in a cache
    with database.engine.connect() as connection:
        found = connection.execute(ask).first()
    return 0.0 if found is None else (found[0].replace(tzinfo=None) - found[1]).total_seconds()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Leave out Optuna's line for every study, and what it says of heartbeats being new.

    Yields:
        Nothing.
    """
    from optuna import logging
    from optuna.exceptions import ExperimentalWarning

    with _VERBOSITY, warnings_ignored(ExperimentalWarning):
        level = logging.get_verbosity()
        logging.set_verbosity(max(level, logging.WARNING))
        try:
            yield
        finally:
            logging.set_verbosity(level)


@contextmanager
def storage_errors(where: str, doing: str) -> Iterator[None]:
    """Turn every failure of files, databases and Optuna into a StorageError.

    Args:
        where: The store, as messages name it.
        doing: What is being done to it: "reading" or "writing".

    Yields:
        Nothing.

    Raises:
        MissingExtraError: Optuna is not installed.
        StorageError: Something failed; the records written before are as they were.
    """
    try:
        import sqlalchemy.exc
        from optuna.exceptions import OptunaError
    except ImportError as error:
        raise MissingExtraError("optuna", "sweep") from error
    try:
        yield
    except EtastarError:
        raise
    except (OSError, OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _translated(error, where, doing) from error
    except (ValueError, KeyError, RuntimeError, AssertionError) as error:
        # optuna's journal raises these on a line that is no entry of its own
        raise StorageError(
            f"{where}, damaged or of another program: {cause_of(error)}",
            "a store that this version of Optuna can read",
            "restore it from a copy, or give another path",
        ) from error


def _translated(error: Exception, where: str, doing: str) -> StorageError:
    cause = _cause(error)
    is_full = isinstance(cause, OSError) and cause.errno in _FULL
    if is_full or any(words in str(cause) for words in _FULL_WORDS):
        advice = "room for the next record", "make room, then run the same command again"
    elif isinstance(cause, _NO_FILE):
        advice = "a file in a folder that is there", "make the folder, or give another path"
    elif _AWAY_WORD in str(cause):
        again = "check the URL and its server, then run the same command again"
        advice = "a database that answers", again
    elif doing == "writing":
        kept = "give write access or another store; finished runs are kept and can be read"
        advice = "a store that can be written", kept
    else:
        advice = "a store that can be read", "check the path or URL and its server"
    return StorageError(f"{doing} {where}: {cause_of(cause)}", *advice)


def _cause(error: BaseException) -> BaseException:
    """What the driver or the system said; Optuna and SQLAlchemy put their own words around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
