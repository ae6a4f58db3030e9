"""Who has a run in flight, and whether that process still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from etastar.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HEARTBEAT_GRACE", "Owner", "is_alive", "this_owner"]

HEARTBEAT_GRACE = 120.0
"""Seconds without a heartbeat after which a process of another host counts as dead."""

_DEAD_STATES = "ZXx"


@dataclass(frozen=True)
class Owner:
    """A process that runs points.

    Attributes:
        key: Tells this use of the store from all others.
        host: Host, its boot and the process namespace: where `pid` means something.
        pid: Process id.
        started: Start of the process in clock ticks after boot; "" where the system does not say.
    """

    key: str
    host: str
    pid: int
    started: str

    def as_dict(self) -> dict[str, str | int]:
        """The owner as JSON-safe values; what `from_dict` reads."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, str | int]) -> Owner:
        """The owner that `as_dict` wrote.

        Args:
            values: key, host, pid and started.

        Returns:
            The owner.

        Raises:
            StorageError: A value is missing.

        Example:
            >>> owner = this_owner()
            >>> Owner.from_dict(owner.as_dict()) == owner
            True
        """
        try:
            return Owner(
                key=str(values["key"]),
                host=str(values["host"]),
                pid=int(values["pid"]),
                started=str(values["started"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"a mark of a run in flight by {values!r}",
                "its key, host, pid and start",
                "use a store that etastar wrote",
            ) from error


def this_owner() -> Owner:
    """A new owner in this process.

    Returns:
        It; its key is never the same.

    Example:
        >>> this_owner().pid == os.getpid()
        True
    """
    pid = os.getpid()
    return Owner(key=uuid4().hex, host=_host(), pid=pid, started=_start_of(pid) or "")


def is_alive(owner: Owner, *, last_beat: float, now: float, grace: float = HEARTBEAT_GRACE) -> bool:
    """Whether an owner may still finish what it began.

    On the same host the process itself is looked at (a reused pid has another start time), so a
    killed sweep can go on at once. Elsewhere only the heartbeat tells; the clocks of the hosts must
    agree to well within `grace`.

    Args:
        owner: Of a mark.
        last_beat: When it was last heard of, in seconds after the epoch.
        now: Present time on the same scale.
        grace: Seconds of silence after which an owner elsewhere counts as dead.

    Returns:
        True unless it is known to be dead.

    Example:
        >>> is_alive(this_owner(), last_beat=0.0, now=1e9)
        True
        >>> elsewhere = Owner(key="k", host="another", pid=1, started="1")
        >>> [is_alive(elsewhere, last_beat=0.0, now=now) for now in (100.0, 200.0)]
        [True, False]
    """
    if owner.host != _host():
        return now - last_beat < grace
    started = _start_of(owner.pid)
    return started is not None and owner.started in ("", started)


@lru_cache
def _host() -> str:
    return "/".join([socket.gethostname(), _boot(), _namespace()])


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return ""


def _namespace() -> str:
    """Containers that share a host name do not share process ids."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return ""


def _start_of(pid: int) -> str | None:
    """Start time of a process, "" where the system does not say; None when there is none."""
    try:
        # the name in parentheses may hold anything; the state and 19 more fields follow it
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in _DEAD_STATES else fields[18]
    except OSError:
        return _signalled(pid)


def _signalled(pid: int) -> str | None:
    """The same where there is no /proc."""
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # it exists and is another user's
        return ""
    return ""
