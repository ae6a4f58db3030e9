"""The peer `mup`: the base's rate, on networks that its own package carries across width [TP5]."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.errors import TrialError
from etastar.experiments.mup_package import MupInit
from etastar.experiments.rules.base import Rule

if TYPE_CHECKING:
    from etastar.experiments.rules.base import Question

__all__ = ["MupRule"]


@dataclass(frozen=True)
class MupRule(Rule):
    """Keeps the rate: initialization and parameter groups are the package's.

    Example:
        >>> MupRule().name
        'mup'

    Source: [TP5]; the package mup.
    """

    name: str = "mup"

    def require(self) -> None:
        """See `Rule.require`."""
        if importlib.util.find_spec("mup") is None:
            raise TrialError(
                "no installed package 'mup'",
                "the package that this peer is run by",
                "pip install --no-deps mup (its metadata ask for torchvision, which it never uses)",
            )

    def rate(self, question: Question) -> float | None:
        """See `Rule.rate`; None for networks that are not the package's."""
        is_its_own = isinstance(question.family.initialization, MupInit)
        return question.base.optimum.lr if is_its_own else None
