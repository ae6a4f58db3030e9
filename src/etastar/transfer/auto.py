"""`law="auto"`: the rule that did best on networks of the same kind, by stored results.

And all laws by the names under which `plan_transfer` takes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from etastar.errors import LawError
from etastar.laws import (
    LAWS,
    Constant,
    EffectiveDepth,
    Law,
    PathSum,
    Structure,
    UnboundLaw,
)
from etastar.optimizers import optimizer_kind
from etastar.transfer.fitted_law import FitSizes
from etastar.transfer.measured_law import Criterion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etastar.laws import Architecture, Evidence, Reads
    from etastar.optimizers import OptimizerKind

__all__ = ["CANDIDATES", "NAMED_LAWS", "TABLE", "TABLE_FORMAT", "Auto", "network_kind"]

TABLE: Final = "auto_table.json"
"""Beside this file: {"format": `TABLE_FORMAT`, "kinds": {kind of network: {"without a batch":
{"rule": name, "why": sentence}, "with a batch": the same, the criterion a candidate too}}}."""

TABLE_FORMAT: Final = 2
"""Of the table; raised when what it holds changes its meaning."""

CANDIDATES: Final[Mapping[str, Callable[[], Law]]] = MappingProxyType(
    {
        "constant": Constant,
        "effective-depth": EffectiveDepth,
        "structure": Structure,
        "path-sum": PathSum,
        "nominal-depth": partial(EffectiveDepth, count="layers"),
    }
)
"""Rules that rescale the learning rate alone and cost nothing; they make their law."""


def network_kind(network: Architecture, optimizer: OptimizerKind) -> str:
    """What of a network and its optimizer decides which rule is taken.

    Three structures, read off the graph as `Structure` does: a chain; residual with a branch of one
    layer; residual with two layers or more on every branch. Two kinds of optimizers: SGD, whose
    step is linear in the gradient, and all others.

    Args:
        network: Any size of it.
        optimizer: Kind of the optimizer.

    Returns:
        A key of the table.

    Example:
        >>> from etastar.depth import DepthReport
        >>> from etastar.laws import Architecture
        >>> chain = Architecture(DepthReport(2, (), 2, 0, 2, 1, (1, 2, 4, 8), 2, 1, ()), ())
        >>> network_kind(chain, optimizer_kind("adamw"))
        'chain, Adam'
    """
    exponent = Structure().exponent(network, optimizer=optimizer_kind("sgd"))
    structure = {-1.5: "chain", -1.0: "residual, one-layer branches"}.get(
        exponent, "residual, longer branches"
    )
    return f"{structure}, {'SGD' if optimizer.update == 'sgd' else 'Adam'}"


@lru_cache(maxsize=1)
def _stored_choices() -> Any:
    """Rule and reason by kind of network, from the table that comes with the package."""
    text = resources.files("etastar.transfer").joinpath(TABLE).read_text(encoding="utf-8")
    stored = json.loads(text)
    if stored.get("format") != TABLE_FORMAT:
        raise LawError(
            f"{TABLE} of format {stored.get('format')!r}",
            f"format {TABLE_FORMAT}",
            "install the package again, or name a law",
        )
    return stored["kinds"]


@final
@dataclass(frozen=True)
class Auto(UnboundLaw):
    """The law with the lowest worst regret on stored results of networks of this kind.

    The results are of networks that were initialized by `initialize_`. Several tuned networks are
    evidence of their own: the law is fitted to them. Where the criterion can be measured, it is one
    of the candidates.

    Example:
        >>> Auto().options
        {}
    """

    name: ClassVar[str] = "auto"
    reads: ClassVar[frozenset[Reads]] = frozenset({"network"})
    alone: ClassVar[bool] = True

    def bind(self, evidence: Evidence) -> tuple[Law, str]:
        """See `UnboundLaw.bind`: the chosen law, which may have to be bound in turn."""
        if len(evidence.points) > 1:
            return FitSizes(), "auto: several tuned networks, the law is fitted to them"
        kind = network_kind(evidence.points[-1].network, evidence.optimizer)
        with_batch = "without a batch" if evidence.measure is None else "with a batch"
        choice = _stored_choices()[kind][with_batch]
        return {**CANDIDATES, Criterion.name: Criterion}[choice["rule"]](), choice["why"]


NAMED_LAWS: Final[Mapping[str, type[Law]]] = MappingProxyType(
    {**LAWS, FitSizes.name: FitSizes, Criterion.name: Criterion, Auto.name: Auto}
)
"""Every law that is taken by name; the last three are made from evidence."""
