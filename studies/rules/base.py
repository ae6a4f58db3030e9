"""The protocol of transfer rules: from tuned sizes to a rate for the target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.fit import Optimum
from etastar.laws import Architecture
from etastar.sweep.recipe import Size
from studies.network import network_architecture

if TYPE_CHECKING:
    from studies.declaration import Family


@dataclass(frozen=True)
class TunedSize:
    """A base: its optimum, and what finding it cost.

    Attributes:
        size: Of the network.
        architecture: Depth report and parameters.
        optimum: Of its sweep.
        steps: Optimizer steps of that sweep.
    """

    size: Size
    architecture: Architecture
    optimum: Optimum
    steps: int


@dataclass(frozen=True)
class Question:
    """What a rule is asked: the rate of one target.

    Attributes:
        family: The networks, their data, optimizer and initialization.
        bases: As many tuned sizes as the rule takes, smallest first.
        target: Size to be trained.
    """

    family: Family
    bases: tuple[TunedSize, ...]
    target: Size

    @property
    def base(self) -> TunedSize:
        """The smallest base; there is none for a rule that takes none."""
        return self.bases[0]

    @property
    def target_architecture(self) -> Architecture:
        """Depth report and parameters of the target."""
        return network_architecture(self.family.network, self.target)


class Rule(ABC):
    """Carries the learning rate of tuned sizes to a target.

    The contract: a rule sees nothing of the target's own sweep; the same question gives the same
    rate; whatever steps it trains to find its answer it counts in `own_steps`. A rule is one class
    of this folder, and an entry of `registry.RULES`.

    Attributes:
        name: In tables.
        num_bases: How many tuned sizes it takes.
    """

    name: str
    num_bases: int = 1

    def require(self) -> None:  # noqa: B027  most rules need nothing
        """Refuse at once what would fail after hours of runs: a package that is not installed.

        Raises:
            EtastarError: It is not.
        """

    @abstractmethod
    def rate(self, question: Question) -> float | None:
        """The rate for the target.

        Args:
            question: Bases and target.

        Returns:
            The rate; None where the rule does not apply.
        """

    def own_steps(self, question: Question) -> int:
        """Optimizer steps (forward and backward passes) beyond those that tuned the bases.

        Args:
            question: As for `rate`.

        Returns:
            The number; 0 for a rule that computes.
        """
        return 0
