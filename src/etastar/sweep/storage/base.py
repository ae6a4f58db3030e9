"""The protocol of stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Point, Size

__all__ = ["Store"]


class Store(ABC):
    """Keeps the runs of a sweep, so that the same sweep goes on where it stopped.

    The contract:

    - What `finish` was called with is there after any crash that follows its return, kill -9
      included; what was begun and not finished is not among the records, and can be begun again.
    - `begin` marks a point as in flight and returns False where another live process has it or a
      record is there: two machines on one store never run a point twice. A mark whose owner is
      dead does not count.
    - A store holds one experiment: opening it for another one raises, and says in what they
      differ. So does a store of an unknown format version.
    - A failed write (full disk, read-only) raises StorageError and leaves the records readable.
    - Numbers come back exactly, +inf and NaN too.
    - A point has at most one record: where two are finished, the first stays.
    - `shared` says whether other processes can see it.
    """

    shared: bool = True

    @abstractmethod
    def open(self, settings: Mapping[str, str]) -> None:
        """Claim the store for one experiment, or check that it is this one.

        Args:
            settings: All that tells the experiment from another, as text.

        Raises:
            StorageError: Another experiment, another format, not readable, or not writable.
        """

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Settings of the experiment that the store holds; {} for a new one."""

    @abstractmethod
    def sizes(self) -> tuple[Size, ...]:
        """Sizes that have a record, in the order in which they were begun."""

    @abstractmethod
    def records(self, size: Size) -> tuple[TrialRecord, ...]:
        """Finished runs of a size, sorted by point."""

    @abstractmethod
    def begin(self, size: Size, points: Sequence[Point]) -> tuple[Point, ...]:
        """Mark points as in flight; returns those that are this process's to run."""

    @abstractmethod
    def finish(self, record: TrialRecord) -> None:
        """Keep a finished run."""

    def close(self) -> None:  # noqa: B027  nothing to release by default
        """Let go of marks and connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
