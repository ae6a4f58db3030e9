"""Optuna's journal file, made to survive a kill in the middle of a write."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from etastar.errors import StorageError, warnings_ignored

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["open_journal"]

_LOCK_GRACE = 2
"""Seconds after which a lock that nobody uses is broken; kill -9 often leaves one."""

_LONGEST_FIRST_LINE = 1 << 20
_OPENING = b'{"op_code":'


def open_journal(path: str | os.PathLike[str]) -> BaseStorage:
    """Optuna's storage on a journal file, which is made when there is none.

    A line that a killed writer or a full disk left unfinished is taken away before the next is
    written; it was never acknowledged. Writers of one host queue for a lock that the system lets go
    when its holder dies, so that at most one of them waits for a stale lock file.

    Args:
        path: Of the file.

    Returns:
        The storage.

    Raises:
        StorageError: The file is not a journal of Optuna.
        OSError: It cannot be read or made.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = Path(path)
    _require_journal(file)
    return JournalStorage(JournalFileBackend(str(file), lock_obj=_RepairingLock(file)))


def _require_journal(file: Path) -> None:
    """Refuse what is no journal, before anything is repaired in it."""
    if not file.exists():
        return
    if not file.is_file():
        raise StorageError(
            f"{file}, which is no ordinary file", "a journal, or no file", "give another path"
        )
    with file.open("rb") as stream:
        first = stream.readline(_LONGEST_FIRST_LINE)
    if first.endswith(b"\n"):
        with suppress(ValueError):
            entry = json.loads(first)
            if isinstance(entry, dict) and "op_code" in entry:
                return
    elif first[: len(_OPENING)] == _OPENING[: len(first)]:
        return
    raise StorageError(
        f"{file}, which is not a journal of Optuna", "a journal, or no file", "give another path"
    )


class _RepairingLock:
    """Optuna's own lock file, held inside a system lock, with the tail mended on the way."""

    def __init__(self, file: Path) -> None:
        from optuna.storages.journal import JournalFileSymlinkLock

        self._file = file
        self._queue: int | None = None
        with warnings_ignored():
            # of a period below 3 s: it thinks of slow writers, and ours take milliseconds
            self._lock = JournalFileSymlinkLock(str(file), grace_period=_LOCK_GRACE)

    def acquire(self) -> bool:
        """Wait for both locks; the file then ends with a complete line."""
        self._queue = _enter_queue(self._file)
        try:
            acquired = bool(self._lock.acquire())
        except BaseException:
            self._leave_queue()
            raise
        try:
            _drop_unfinished_line(self._file)
        except BaseException:
            self.release()
            raise
        return acquired

    def release(self) -> None:
        """Let go of both locks."""
        try:
            self._lock.release()
        finally:
            self._leave_queue()

    def _leave_queue(self) -> None:
        if self._queue is not None:
            os.close(self._queue)
            self._queue = None


def _enter_queue(file: Path) -> int | None:
    """Wait for the system lock of the journal itself; None where the system has none."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # some network file systems have no such locks
        os.close(descriptor)
        return None
    return descriptor


def _drop_unfinished_line(file: Path) -> None:
    """Cut the file after its last complete line."""
    with file.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - 4096)
            stream.seek(start)
            newline = stream.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            stream.truncate(keep)
