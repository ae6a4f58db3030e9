"""All rates with all seeds."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from etastar.errors import TrialError
from etastar.sweep.search.base import Search
from etastar.sweep.space import Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.search.base import Context

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid(Search):
    """Every rate with every seed, in one proposal.

    Args:
        lrs: Positive, all different, in the order in which to run them.

    Raises:
        TrialError: No rate, one that is not positive, or one given twice.

    Example:
        >>> from etastar.sweep.search.base import Context
        >>> context = Context((("depth", 2),), seeds=(0,), optima=(), num_steps=10)
        >>> Grid((0.1, 0.2)).propose((), context)
        (Point(lr=0.1, seed=0), Point(lr=0.2, seed=0))
    """

    lrs: tuple[float, ...]

    name = "grid"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lrs", tuple(float(lr) for lr in self.lrs))
        valid = all(0 < lr < inf for lr in self.lrs)
        if not self.lrs or not valid or len(set(self.lrs)) < len(self.lrs):
            raise TrialError(
                f"the rates {self.lrs}", "positive rates, one or more, each once", "mend the rates"
            )

    @property
    def options(self) -> dict[str, float | int | str]:
        """The rates, as text."""
        return {"lrs": ",".join(map(repr, self.lrs))}

    def propose(self, finished: Sequence[TrialRecord], context: Context) -> tuple[Point, ...]:
        """What has not been run; see `Search.propose`."""
        done = {record.point for record in finished}
        points = (Point(lr, seed) for seed in dict.fromkeys(context.seeds) for lr in self.lrs)
        return tuple(point for point in points if point not in done)
