"""The protocol of search strategies, and the plainest of them: all rates with all seeds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etastar.errors import TrialError
from etastar.fit import Optimum
from etastar.sweep.recipe import Point, Size
from etastar.sweep.trial import TrialRecord
from etastar.typed import require_number


@dataclass(frozen=True)
class Context:
    """What a search may know besides the runs of its own size.

    Attributes:
        size: The size that is searched.
        seeds: The sweep's seeds, in order; a search uses a prefix of them, or all.
        optima: Optima of the sizes done before, in the order of the sweep.
        depths: Effective depths of this size and of those in `optima`, where they are known; in
            their place a search may use the sizes' own "depth".
        start: Rate that the criterion allows at this size before training, for a search that asks
            for it; see `Search.needs_start`.
    """

    size: Size
    seeds: tuple[int, ...]
    optima: tuple[tuple[Size, Optimum], ...]
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
    - Every search ends, whatever the losses are, NaN and +inf everywhere included.
    """

    name: str

    @property
    def needs_start(self) -> bool:
        """Whether `Context.start` is needed at a size before which no optimum was found."""
        return False

    @abstractmethod
    def propose(self, finished: Sequence[TrialRecord], context: Context) -> tuple[Point, ...]:
        """New points to run, from this size's runs that have ended; () when the search is done."""

    @property
    @abstractmethod
    def options(self) -> dict[str, float | int | str]:
        """The settings that tell this search from another of its kind; stored with the sweep."""


@dataclass(frozen=True)
class Grid(Search):
    """Every rate with every seed, in one proposal.

    Args:
        lrs: Positive, all different, in the order in which to run them.

    Raises:
        TrialError: No rate, one that is not a positive number, or one given twice.

    Example:
        >>> context = Context((("depth", 2),), seeds=(0,), optima=())
        >>> Grid((0.1, 0.2)).propose((), context)
        (Point(lr=0.1, seed=0), Point(lr=0.2, seed=0))
    """

    lrs: Sequence[float]

    name = "grid"

    def __post_init__(self) -> None:
        given: Any = self.lrs
        try:
            given = () if isinstance(given, str) else tuple(given)
        except TypeError:
            given = ()
        owner = f"the rates {self.lrs!r}"
        lrs = tuple(
            float(require_number("lr", lr, error=TrialError, above=0, owner=owner)) for lr in given
        )
        if not lrs or len(set(lrs)) < len(lrs):
            raise TrialError(
                f"the rates {self.lrs!r}",
                "positive rates, one or more, each once",
                "mend the rates: Grid([0.01, 0.03, 0.1])",
            )
        object.__setattr__(self, "lrs", lrs)

    @property
    def options(self) -> dict[str, float | int | str]:
        """The rates, as text."""
        return {"lrs": ",".join(map(repr, self.lrs))}

    def propose(self, finished: Sequence[TrialRecord], context: Context) -> tuple[Point, ...]:
        """What has not been run; see `Search.propose`."""
        done = {record.point for record in finished}
        points = (Point(lr, seed) for seed in dict.fromkeys(context.seeds) for lr in self.lrs)
        return tuple(point for point in points if point not in done)
