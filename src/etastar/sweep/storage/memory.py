"""A store that lasts as long as its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etastar.errors import StorageError
from etastar.sweep.storage.base import Store
from etastar.sweep.storage.differences import require_same_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Point, Size

__all__ = ["MemoryStore"]


class MemoryStore(Store):
    """Keeps records in this process, for sweeps whose runs need not outlive it.

    Example:
        >>> from etastar.sweep.space import Point
        >>> store = MemoryStore()
        >>> store.open({"model": "mlp"})
        >>> store.begin((("depth", 3),), [Point(lr=0.1, seed=0)])
        (Point(lr=0.1, seed=0),)
        >>> store.records((("depth", 3),))
        ()
    """

    shared = False

    def __init__(self) -> None:
        self._settings: dict[str, str] = {}
        self._records: dict[Size, dict[Point, TrialRecord]] = {}

    def open(self, settings: Mapping[str, str]) -> None:
        """Claim the store for one experiment; see `Store.open`."""
        if self._settings:
            require_same_settings(settings, self._settings, where="the store in memory")
        self._settings = dict(settings)

    def settings(self) -> dict[str, str]:
        """Settings of the experiment that the store holds; {} for a new one."""
        return dict(self._settings)

    def sizes(self) -> tuple[Size, ...]:
        """Sizes that have a record, in the order in which they were begun."""
        return tuple(size for size, records in self._records.items() if records)

    def records(self, size: Size) -> tuple[TrialRecord, ...]:
        """Finished runs of a size, sorted by point."""
        return tuple(record for _, record in sorted(self._records.get(size, {}).items()))

    def begin(self, size: Size, points: Sequence[Point]) -> tuple[Point, ...]:
        """The points that have no record: no other process can have them."""
        if not self._settings:
            raise StorageError("a store that is not open", "a call of open first", "open it")
        records = self._records.setdefault(size, {})
        return tuple(point for point in dict.fromkeys(points) if point not in records)

    def finish(self, record: TrialRecord) -> None:
        """Keep a finished run; of two runs of a point, the first."""
        self._records.setdefault(record.size, {}).setdefault(record.point, record)
