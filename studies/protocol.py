"""How the families of a study are trained at one scale: the part that is the same for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from etastar.sweep.recipe import Size
from etastar.sweep.search import Bracket, Grid
from etastar.sweep.search.base import Search
from studies.declaration import Family, OptimizerChoice, far_sizes, options
from studies.initialization import StableInit
from studies.network import ZooNetwork

if TYPE_CHECKING:
    from studies.declaration import Budget, Data, Initialization, Options

SGD = OptimizerChoice("sgd")
ADAM = OptimizerChoice("adam")
ADAMW = OptimizerChoice("adamw", (("weight_decay", 0.0),))
"""Without weight decay, which is another experiment's subject."""

_STABLE: Final = StableInit()
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
        sizes: Sizes of the network, smallest first.
        budget: Length of a run.
        seeds: Of initialization and batch order.
        model: Arguments of every network of the study.
        exhaustive: Whether rates are searched until enclosed; else three are tried (smoke).
    """

    data: Data
    sizes: tuple[Size, ...]
    budget: Budget
    seeds: tuple[int, ...]
    model: Options = ()
    exhaustive: bool = True

    def search(self, start: float) -> Search:
        """How a size is tuned.

        Args:
            start: First rate.

        Returns:
            The search.
        """
        return bracket(start) if self.exhaustive else few_rates(start)

    def family(
        self,
        name: str,
        zoo: str,
        *,
        optimizer: OptimizerChoice,
        start: float,
        initialization: Initialization = _STABLE,
        group: str | None = None,
        grows: str = "depth",
        **model: Any,
    ) -> Family:
        """A family of the zoo under this protocol.

        Bases are the three smallest sizes, targets those at least four times larger.

        Args:
            name: Of the family.
            zoo: Name of the network.
            optimizer: With what it is trained.
            start: First rate of the search.
            initialization: He with 1/K on all branch weights, if nothing else is said.
            group: Families that differ in the parametrization alone; the name, if None.
            grows: Argument that is compared to find the targets.
            **model: Arguments of the network beside the protocol's.

        Returns:
            The declaration.
        """
        return Family(
            name=name,
            group=group or name,
            network=ZooNetwork(zoo, options(**{**dict(self.model), **model})),
            data=self.data,
            optimizer=optimizer,
            budget=self.budget,
            sizes=self.sizes,
            bases=self.sizes[:3],
            targets=far_sizes(self.sizes, argument=grows),
            search=self.search(start),
            seeds=self.seeds,
            initialization=initialization,
        )
