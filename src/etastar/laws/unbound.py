"""Laws that are made from evidence, and what follows from it."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from etastar.errors import LawError
from etastar.laws.base import Law, Reads, ScaledWeights

if TYPE_CHECKING:
    from etastar.laws.base import Evidence, Factors, ParamPair, TransferCase

__all__ = ["Bound", "UnboundLaw"]


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
        """The laws that follow from the evidence.

        Args:
            evidence: Tuned networks, target and optimizer, and how to measure.

        Returns:
            The laws, and why they are these.

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
