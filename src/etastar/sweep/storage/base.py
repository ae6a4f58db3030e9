"""The protocol of stores, and the store that lasts as long as its process."""

from __future__ import annotations

from abc import abstractmethod
from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter

from etastar.errors import StorageError
from etastar.sweep.recipe import Point, Size
from etastar.sweep.trial import TrialRecord


class Store(AbstractContextManager["Store"]):
    """Keeps the runs of a sweep, so that the same sweep goes on where it stopped.

    The contract:

    - What `finish` was called with is there after any crash that follows its return, kill -9
      included; what was begun and not finished is not among the records, and can be begun again.
    - `open` comes before `begin`, `finish` and `keep_depth`; reading needs none.
    - `begin` claims points, and leaves out those that another live process has or that have a
      record. A claim whose process died does not hold for long. A claim may be taken over from a
      process that lives but has not been heard of: both runs then give the same record, and the
      first that is finished counts.
    - A store holds one recipe: opening it for another one raises, and says in what they differ;
      while no run of it is finished or under way, it becomes the other one's. An unknown format
      version raises. What raises leaves the store as it is.
    - A failed write (full disk, read-only) raises StorageError and leaves the records readable.
    - Numbers come back exactly, +inf and NaN too.
    - A point has at most one record: where two are finished, the first stays.
    - A store is data: reading it imports nothing and calls nothing that is named in it.
    """

    @abstractmethod
    def open(self, settings: Mapping[str, str]) -> None:
        """Claim the store for one recipe by its settings, or check that it is this one's."""

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Settings of the recipe that the store holds; {} for a new one."""

    @abstractmethod
    def sizes(self) -> tuple[Size, ...]:
        """Sizes that have a record, in the order in which they were begun."""

    @abstractmethod
    def depth(self, size: Size) -> float | None:
        """Effective depth of a size, if it was kept."""

    @abstractmethod
    def keep_depth(self, size: Size, depth: float) -> None:
        """Keep the effective depth of a size, so that a reader need not build the model."""

    @abstractmethod
    def records(self, size: Size) -> tuple[TrialRecord, ...]:
        """Finished runs of a size, sorted by point."""

    @abstractmethod
    def begin(self, size: Size, points: Sequence[Point]) -> tuple[Point, ...]:
        """Claim points; returns those that are this store's to run."""

    @abstractmethod
    def finish(self, record: TrialRecord) -> None:
        """Keep a finished run."""

    def awaited(self, size: Size, points: Sequence[Point]) -> str:
        """A line on who runs points that `begin` did not give, and until when; "" if nobody."""
        return ""

    def close(self) -> None:
        """Let go of claims and connections."""

    def __exit__(self, *raised: object) -> None:
        self.close()


class MemoryStore(Store):
    """Keeps records in this process, for sweeps whose runs need not outlive it.

    Example:
        >>> from etastar.sweep.recipe import Point
        >>> store = MemoryStore()
        >>> store.open({"model": "mlp"})
        >>> store.begin((("depth", 3),), [Point(lr=0.1, seed=0)])
        (Point(lr=0.1, seed=0),)
        >>> store.records((("depth", 3),))
        ()
    """

    def __init__(self) -> None:
        self._settings: dict[str, str] = {}
        self._depths: dict[Size, float] = {}
        self._finished: defaultdict[Size, set[Point]] = defaultdict(set)
        self._sorted: defaultdict[Size, list[TrialRecord]] = defaultdict(list)

    def open(self, settings: Mapping[str, str]) -> None:
        """Claim the store for one recipe; see `Store.open`."""
        if any(self._finished.values()):
            require_same_settings(settings, self._settings, where="the store in memory")
        if self._settings != settings:
            self._settings = dict(settings)
            self._depths.clear()

    def settings(self) -> dict[str, str]:
        """Settings of the recipe that the store holds; {} for a new one."""
        return dict(self._settings)

    def sizes(self) -> tuple[Size, ...]:
        """Sizes that have a record, in the order in which they were begun."""
        return tuple(size for size, points in self._finished.items() if points)

    def depth(self, size: Size) -> float | None:
        """Effective depth of a size, if it was kept."""
        return self._depths.get(size)

    def keep_depth(self, size: Size, depth: float) -> None:
        """Keep the effective depth of a size."""
        self._depths[size] = depth

    def records(self, size: Size) -> tuple[TrialRecord, ...]:
        """Finished runs of a size, sorted by point."""
        return tuple(self._sorted.get(size, ()))

    def begin(self, size: Size, points: Sequence[Point]) -> tuple[Point, ...]:
        """The points that have no record: no other process can have them."""
        finished = self._finished[size]
        return tuple(point for point in dict.fromkeys(points) if point not in finished)

    def finish(self, record: TrialRecord) -> None:
        """Keep a finished run; of two runs of a point, the first."""
        if record.point not in self._finished[record.size]:
            self._finished[record.size].add(record.point)
            insort(self._sorted[record.size], record, key=attrgetter("point"))


def require_same_settings(
    wanted: Mapping[str, str], held: Mapping[str, str], *, where: str
) -> None:
    """Refuse a store that holds another recipe, naming every setting that differs.

    Example:
        >>> try:
        ...     require_same_settings({"model": "gpt"}, {"model": "mlp"}, where="runs.log")
        ... except StorageError as error:
        ...     print(error.received)
        runs.log holds another experiment: model is 'mlp' there and 'gpt' here
    """
    differences = [
        f"{key} is {_shown(held, key)} there and {_shown(wanted, key)} here"
        for key in sorted({*wanted, *held})
        if wanted.get(key) != held.get(key)
    ]
    if differences:
        raise StorageError(
            f"{where} holds another experiment: {'; '.join(differences)}",
            "a new store, or one of the same experiment",
            "give another path or another name, or the settings that the store holds",
        )


def _shown(settings: Mapping[str, str], key: str) -> str:
    return repr(settings[key]) if key in settings else "not set"
