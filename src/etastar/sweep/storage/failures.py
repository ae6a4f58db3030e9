"""What goes wrong below a store, as the one error that its callers know."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etastar.errors import EtastarError, MissingExtraError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

__all__ = ["import_optuna", "storage_errors"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_AWAY_WORD = "connection"  # in whatever way PostgreSQL or MySQL is not there, or no longer
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_FULL_WORDS = ("disk is full", "No space left on device")  # SQLite's and PostgreSQL's


def import_optuna() -> ModuleType:
    """Optuna, or the extra that brings it.

    Returns:
        The module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "sweep") from error
    module: ModuleType = optuna
    return module


@contextmanager
def storage_errors(where: str, doing: str) -> Iterator[None]:
    """Turn every failure of files, databases and Optuna into a StorageError.

    Args:
        where: The store, as messages name it.
        doing: What is being done to it: "reading" or "writing".

    Yields:
        Nothing.

    Raises:
        StorageError: Something failed; the records written before are as they were.
    """
    import sqlalchemy.exc
    from optuna.exceptions import OptunaError

    try:
        yield
    except EtastarError:
        raise
    except (OSError, OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _translated(error, where, doing) from error
    except (ValueError, KeyError, RuntimeError, AssertionError) as error:
        # optuna's journal raises these on a line that is no entry of its own
        raise StorageError(
            f"{where}, damaged or of another program: {type(error).__name__}: {_line(error)}",
            "a store that this version of Optuna can read",
            "restore it from a copy, or give another path",
        ) from error


def _translated(error: Exception, where: str, doing: str) -> StorageError:
    cause = _cause(error)
    failure = f"{type(cause).__name__} while {doing} {where}: {_line(cause)}"
    full = isinstance(cause, OSError) and cause.errno in _FULL
    if full or any(words in str(cause) for words in _FULL_WORDS):
        return StorageError(
            failure, "room for the next record", "make room, then run the same command again"
        )
    if isinstance(cause, _NO_FILE):
        return StorageError(
            failure, "a file in a folder that is there", "make the folder, or give another path"
        )
    if _AWAY_WORD in str(cause):
        return StorageError(
            failure,
            "a database that answers",
            "check the URL and its server, then run the same command again",
        )
    if doing == "writing":
        return StorageError(
            failure,
            "a store that can be written",
            "give write access or another store; finished runs are kept and can be read",
        )
    return StorageError(failure, "a store that can be read", "check the path or URL and its server")


def _cause(error: BaseException) -> BaseException:
    """What the driver or the system said; Optuna and SQLAlchemy put their own words around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _line(error: BaseException) -> str:
    """The first line of a message; databases add statements and links."""
    return str(error).partition("\n")[0]
