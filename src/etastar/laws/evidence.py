"""Laws that are made from evidence: what it is, and what follows from it; the criterion's law."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from etastar.errors import LawError
from etastar.laws.base import (
    Architecture,
    Factors,
    Law,
    ParamPair,
    ScaledWeights,
    TransferCase,
    learning_rate,
)
from etastar.optimizers import OptimizerKind
from etastar.typed import set_numbers

Reads = Literal["network", "points", "criterion"]
"""Evidence that a law is made from: the base's kind, all tuned networks, the measured criterion."""


@dataclass(frozen=True)
class TunedPoint:
    """A tuned network as a law sees it.

    Attributes:
        network: The network.
        lr: Its tuned learning rate.
        log_lr_sd: Standard deviation of the logarithm of that rate; None where it is not known.
    """

    network: Architecture
    lr: float
    log_lr_sd: float | None = None


@final
@dataclass(frozen=True)
class Measured(Law):
    """Every rate times sqrt(M_base / M_target), M the mean-square update per squared rate.

    Both are measured with the other laws of the plan in force, so that this factor is what they
    leave to do. `plan_transfer(law="measured", measure=...)` makes it.

    Args:
        base: M of the base network.
        target: M of the target network.

    Raises:
        LawError: A mean square is not positive and finite.

    Example:
        >>> Measured(base=4.0, target=16.0).factor
        0.5

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """

    base: float
    target: float

    name: ClassVar[str] = "measured"

    def __post_init__(self) -> None:
        owner = f"the law {self.name!r}"
        set_numbers(self, "base", "target", error=LawError, above=0, owner=owner)

    @property
    def factor(self) -> float:
        """sqrt(M_base / M_target)."""
        return math.sqrt(self.base / self.target)

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        return learning_rate(self.factor, optimizer=case.optimizer)


@dataclass(frozen=True)
class Evidence:
    """What is known beyond base and target, for laws that are made from it.

    Attributes:
        points: The tuned networks, the one that the plan starts from last.
        target: The network to be trained.
        pairs: Its parameters with their counterparts in the last of the points.
        optimizer: Kind of the optimizer.
        initialized: Branch weights to which `initialize_` gave 1 / K in the base; None where the
            base has an initialization of its own.
        keep: Whether the target's initial weights stay as they are.
        laws: The laws that are bound already, to be in force while the criterion is measured.
        measure: Measures the criterion at both networks under these laws, and says what was found;
            None without a batch.
        powers: Power of 1/K in the variance of the inner and of the last weights of residual
            branches, as the initial weights of base and target show it; None where they do not.
    """

    points: tuple[TunedPoint, ...]
    target: Architecture
    pairs: tuple[ParamPair, ...]
    optimizer: OptimizerKind
    initialized: ScaledWeights | None = None
    keep: bool = False
    laws: tuple[Law, ...] = ()
    measure: Callable[[tuple[Law, ...]], tuple[Measured, str]] | None = None
    powers: tuple[float, float] | None = None


@dataclass(frozen=True)
class Bound:
    """What follows from evidence: the laws to plan with, and what is to be said of them.

    Attributes:
        laws: Laws without needs.
        read: What of the evidence they were made from.
        why: Two sentences on a choice; "" where the law was named.
        note: For the plan's notes.
        log_reach: Half the length of the 95% interval of the logarithm of the target's best rate;
            None where it is not known.
        residual: Branch weights that carry 1 / K where these laws are at home; "own" for the
            networks' own initialization, None for what the laws say.
        prior: Mean and standard deviation of d log(lr) / d log(effective depth) that were expected
            before any rate was tuned, without multipliers; None where nothing was.
    """

    laws: tuple[Law, ...]
    read: frozenset[Reads]
    why: str = ""
    note: str = ""
    log_reach: float | None = None
    residual: ScaledWeights | Literal["own"] | None = None
    prior: tuple[float, float] | None = None


class UnboundLaw(Law):
    """A law that is made from evidence: `bind` gives those to plan with.

    Attributes:
        reads: What of the evidence it may be made from.
    """

    reads: ClassVar[frozenset[Reads]]

    @abc.abstractmethod
    def bind(self, evidence: Evidence) -> Bound:
        """The laws that follow from the evidence, and why they are these.

        Raises:
            LawError: The evidence is not there.
        """

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """Refused: it has no factors before it is bound."""
        raise LawError(
            f"the law {self.name!r} before it was bound",
            "the law that bind returns",
            "let plan_transfer bind it, or call bind(evidence)",
        )
