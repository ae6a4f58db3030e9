"""Optuna's storage at a path or URL, its errors as one kind, and the process that holds a claim.

Optuna's journal file is made to survive a kill in the middle of a write: a line that a killed
writer or a full disk left unfinished is taken away before the next is written; it was never
acknowledged. Writers of one host queue for a lock that the system lets go when its holder dies, so
that at most one of them waits for a stale lock file.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from etastar.errors import EtastarError, MissingExtraError, StorageError, cause_of, warnings_ignored

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage

HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 60
"""Between two signs of life in a database; without any, after which a run's process is dead."""

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

_LOCK_GRACE = 2
"""Seconds after which a journal's lock that nobody uses is broken; kill -9 often leaves one."""

_OPENING = b'{"op_code":'


def shown_location(location: str | os.PathLike[str]) -> str:
    """The location as messages show it: without a password, wherever in a URL it stands.

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
    """Optuna's storage at a path or URL; None for one that is not there and is not to be made.

    Raises:
        StorageError: The driver of the URL is not installed, or the file is no journal.
    """
    if "://" not in str(location):
        return _journal(Path(location)) if create or Path(location).exists() else None
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
            database = RDBStorage(url, engine_kwargs=options)
    except (ImportError, ArgumentError) as error:
        raise StorageError(
            f"{shown_location(url)}, whose driver is not installed or not known",
            "the Python package that the URL names",
            "pip install it: psycopg2-binary for postgresql+psycopg2://",
        ) from error
    if is_sqlite:
        # it has no lock for a row: without, what was read is out of date when it is written
        lock = "BEGIN IMMEDIATE"
        event.listen(database.engine, "begin", lambda connection: connection.exec_driver_sql(lock))
    return database


def _is_race(error: Exception) -> bool:
    """Whether a table or its first row was there though it was not a moment ago."""
    return any(words in str(error) for words in ("already exists", "UNIQUE", "duplicate key"))


def _journal(file: Path) -> BaseStorage:
    """Optuna's storage on a journal file, which is made when there is none."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    _require_journal(file)
    return JournalStorage(JournalFileBackend(str(file), lock_obj=_RepairingLock(file)))


def _require_journal(file: Path) -> None:
    """Refuse what is no journal, before anything is repaired in it."""
    if not file.exists():
        return
    wrong = "is no ordinary file"
    if file.is_file():
        with file.open("rb") as stream:
            if _OPENING.startswith(stream.read(len(_OPENING))):  # a kill may have torn its first
                return
        wrong = "is not a journal of Optuna"
    raise StorageError(f"{file}, which {wrong}", "a journal, or no file", "give another path")


class _RepairingLock:
    """Optuna's own lock file, held inside a system lock, with the tail mended on the way."""

    def __init__(self, file: Path) -> None:
        from optuna.storages.journal import JournalFileSymlinkLock

        self._file = file
        self._held = ExitStack()
        with warnings_ignored():
            # of a period below 3 s: it thinks of slow writers, and ours take milliseconds
            self._lock = JournalFileSymlinkLock(str(file), grace_period=_LOCK_GRACE)

    def acquire(self) -> bool:
        """Wait for both locks; the file then ends with a complete line."""
        with ExitStack() as taken:
            taken.enter_context(_turn(self._file))
            self._lock.acquire()
            taken.callback(self._lock.release)
            _drop_unfinished_line(self._file)
            self._held = taken.pop_all()
        return True

    def release(self) -> None:
        """Let go of both locks."""
        self._held.close()


@contextmanager
def _turn(file: Path) -> Iterator[None]:
    """Wait for the system lock of the journal itself, where the system has one."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with file.open("ab") as stream:
        with suppress(OSError):  # some network file systems have no such locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _drop_unfinished_line(file: Path) -> None:
    """Cut the file after its last complete line."""
    with file.open("rb+") as stream:
        if not (end := stream.seek(0, os.SEEK_END)):
            return
        stream.seek(end - 1)
        if stream.read() != b"\n":
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)


def disconnect(storage: BaseStorage) -> None:
    """Close the connections of this thread and those at rest."""
    storage.remove_session()
    # optuna wraps the database in a cache and has no call that closes the pool of connections
    engine = getattr(getattr(storage, "_backend", None), "engine", None)
    if engine is not None:
        engine.dispose()


def seconds_silent(storage: BaseStorage, trial_id: int) -> float | None:
    """How long ago, by a database's own clock, Optuna recorded a heartbeat of a trial; or None."""
    from sqlalchemy import DateTime, column, func, select, table

    beats = table("trial_heartbeats", column("trial_id"), column("heartbeat", DateTime))
    ask = select(func.now(), beats.c.heartbeat).where(beats.c.trial_id == trial_id)
    database = getattr(storage, "_backend", storage)  # optuna wraps it in a cache
    with database.engine.connect() as connection:
        found = connection.execute(ask).first()
    return None if found is None else (found[0].replace(tzinfo=None) - found[1]).total_seconds()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Leave out Optuna's line for every study."""
    from optuna import logging

    with _VERBOSITY:
        level = logging.get_verbosity()
        logging.set_verbosity(max(level, logging.WARNING))
        try:
            yield
        finally:
            logging.set_verbosity(level)


@contextmanager
def storage_errors(where: str, doing: str) -> Iterator[None]:
    """Turn every failure of files, databases and Optuna, while "reading" or "writing", to an error.

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


LEFT: set[str] = set()
"""Holders of this process that hold nothing any more, also in a store that cannot be written."""


def new_holder() -> str:
    """Of an opened store: host, number of the process, where that counts, and a random word."""
    return f"{socket.gethostname()} {os.getpid()} {_numbered()} {uuid4().hex[:12]}"


def is_over(holder: str) -> bool:
    """Whether a holder left, or was a process of this machine that is no more; else False."""
    if holder in LEFT:
        return True
    _, process, numbered, _ = (*holder.split(), "", "", "", "")[:4]
    if numbered != _numbered() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        pass
    return False


@lru_cache(maxsize=1)
def _numbered() -> str:
    """Where process numbers count: this boot of this machine, and within it this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return uuid4().hex
