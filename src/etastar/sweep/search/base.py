"""The protocol of search strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.fit import Optimum
    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Point, Size

__all__ = ["Context", "Search"]


@dataclass(frozen=True)
class Context:
    """What a search may know besides the runs of its own size.

    Attributes:
        size: The size that is searched.
        seeds: The sweep's seeds, in order; a search uses a prefix of them, or all.
        optima: Optima of the sizes done before, in the order of the sweep.
        num_steps: Steps of one run.
        depths: Effective depths of this size and of those in `optima`, where they are known; in
            their place a search may use the sizes' own "depth".
        start: Rate that the criterion allows at this size before training, for a search that asks
            for it; see `Search.needs_start`.
    """

    size: Size
    seeds: tuple[int, ...]
    optima: tuple[tuple[Size, Optimum], ...]
    num_steps: int
    depths: tuple[tuple[Size, float], ...] = ()
    start: float | None = None


class Search(ABC):
    """Decides which points of one size to run next.

    The contract:

    - `propose` is a pure function of its arguments. The same finished runs, in whatever order they
      ended, give the same proposal; so a sweep that was killed goes on where it stopped, and its
      table is that of an undisturbed one.
    - It never proposes a point that is among the finished runs, nor the same point twice.
    - It proposes nothing, once, when it is done; then it proposes nothing for ever.
    - A proposal is run as a whole before the next is asked for: its points may run side by side.
    - A diverged run is a finished run with loss +inf; it is used, never asked for again.
    - A point may carry a ceiling; it is above the loss of the best finished run of its seed, so
      that a run which was ended by it is never the best.
    - Every search ends, whatever the losses are, NaN and +inf everywhere included.
    """

    name: str

    @property
    def needs_start(self) -> bool:
        """Whether `Context.start` is needed at a size before which no optimum was found."""
        return False

    @abstractmethod
    def propose(self, finished: Sequence[TrialRecord], context: Context) -> tuple[Point, ...]:
        """Points to run next.

        Args:
            finished: Runs of this size that have ended, diverged ones among them.
            context: Seeds, and the optima of the sizes before.

        Returns:
            New points; () when the search is done.
        """

    @property
    @abstractmethod
    def options(self) -> dict[str, float | int | str]:
        """The settings that tell this search from another of its kind; stored with the sweep."""
