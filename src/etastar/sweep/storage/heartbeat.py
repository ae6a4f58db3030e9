"""A sign of life at regular intervals, for sweeps that share a store from several hosts."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from etastar.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Heartbeat"]


class Heartbeat:
    """Calls a function in a thread until it is stopped.

    A beat that fails is left out: the next may reach the store again, and a store that stays away
    shows itself at the next record.

    Args:
        beat: What to call; it may raise StorageError.
        interval: Seconds between calls.

    Example:
        >>> heard = Event()
        >>> heartbeat = Heartbeat(heard.set, interval=0.01)
        >>> heartbeat.start()
        >>> heard.wait(10)
        True
        >>> heartbeat.stop()
    """

    def __init__(self, beat: Callable[[], None], *, interval: float) -> None:
        self._beat = beat
        self._interval = interval
        self._stopped = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start once; further calls do nothing."""
        if self._thread is None:
            self._stopped.clear()
            self._thread = Thread(target=self._run, name="etastar heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for a beat under way."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            with suppress(StorageError):
                self._beat()
