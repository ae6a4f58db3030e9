"""How the families of a study are trained at one scale: the part that is the same for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.experiments.declaration import OptimizerChoice, far_sizes, ladder
from etastar.sweep.search.bracket import Bracket
from etastar.sweep.search.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etastar.experiments.declaration import Data
    from etastar.sweep.search.base import Search
    from etastar.sweep.space import Budget, Size

__all__ = ["ADAM", "ADAMW", "SGD", "Protocol", "bracket", "few_rates"]

SGD = OptimizerChoice("sgd")
ADAM = OptimizerChoice("adam")
ADAMW = OptimizerChoice("adamw", (("weight_decay", 0.0),))
"""Without weight decay, which is another experiment's subject."""

_FACTOR = 2.0
_PRECISION = 0.25
_MOST_TRIALS = 30


def bracket(start: float) -> Bracket:
    """The search of every experiment above smoke: neighbouring rates a factor of 2 apart.

    Args:
        start: Where the first size is begun.

    Returns:
        The search.

    Example:
        >>> bracket(0.1).factor
        2.0
    """
    return Bracket(start, factor=_FACTOR, precision=_PRECISION, max_trials=_MOST_TRIALS)


def few_rates(start: float) -> Grid:
    """The search of smoke: three rates, of which any may be the best.

    Args:
        start: The middle one.

    Returns:
        The search.

    Example:
        >>> few_rates(0.1).lrs
        (0.05, 0.1, 0.2)
    """
    return Grid((start / _FACTOR, start, start * _FACTOR))


@dataclass(frozen=True)
class Protocol:
    """Data, sizes, length and seeds of a study at one scale.

    Attributes:
        data: What is trained on.
        depths: Values of `depth`, smallest first.
        budget: Length of a run.
        seeds: Of initialization and batch order.
        model: Arguments of the network that go with the data.
        exhaustive: Whether rates are searched until enclosed; else three are tried (smoke).
    """

    data: Data
    depths: tuple[int, ...]
    budget: Budget
    seeds: tuple[int, ...]
    model: Mapping[str, int]
    exhaustive: bool = True

    @property
    def sizes(self) -> tuple[Size, ...]:
        """A size for each depth."""
        return ladder(self.depths)

    @property
    def bases(self) -> tuple[Size, ...]:
        """The three smallest."""
        return self.sizes[:3]

    @property
    def targets(self) -> tuple[Size, ...]:
        """Those at least four times deeper than the smallest."""
        return far_sizes(self.sizes)

    def search(self, start: float) -> Search:
        """How a size is tuned.

        Args:
            start: First rate.

        Returns:
            The search.
        """
        return bracket(start) if self.exhaustive else few_rates(start)
