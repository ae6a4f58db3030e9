"""`law="auto"`: the rule that did best on networks of the same kind, by the stored regret table.

And all laws by the names under which `plan_transfer` takes them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import resources
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, final

from etastar.errors import LawError
from etastar.formatting import percent
from etastar.laws import (
    LAWS,
    Bound,
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
    from collections.abc import Callable, Collection, Mapping, Sequence

    from etastar.laws import Architecture, Evidence, Reads
    from etastar.optimizers import OptimizerKind

__all__ = [
    "CANDIDATES",
    "NAMED_LAWS",
    "TABLE",
    "TABLE_FORMAT",
    "Auto",
    "Choice",
    "RegretsByKind",
    "best_rule",
    "choose_rule",
    "network_kind",
    "read_table",
]

TABLE: Final = "auto_table.json"
"""Beside this file: {"format": `TABLE_FORMAT`, "kinds": {kind of network: {rule: [relative regret
of the rule's rate in every case of the kind, null where it diverged]}}}. No run and no setting
stands in it; a case has the same place in the lists of all candidates of its kind."""

TABLE_FORMAT: Final = 1
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
"""Rules of the table that rescale the learning rate alone and cost nothing; they make their law."""

RegretsByKind = dict[str, dict[str, tuple[float, ...]]]
"""Kind of network -> rule -> relative regret of every case, +inf where it diverged."""


@dataclass(frozen=True)
class Choice:
    """What `law="auto"` takes, and why.

    Attributes:
        rule: Name of the rule, as the table has it.
        why: For the plan's printout.
    """

    rule: str
    why: str


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


def best_rule(regrets: Mapping[str, Sequence[float]]) -> str | None:
    """The rule with the lowest worst regret, among those that answered in every case.

    Ties, and rules that diverged somewhere, are ordered by the number of diverged cases, the worst
    finite regret, and the median.

    Args:
        regrets: Relative regret of every case, by rule.

    Returns:
        Its name; None if there is no case.

    Example:
        >>> best_rule({"constant": [0.0, 0.5], "structure": [0.1, 0.2], "path-sum": [0.0]})
        'structure'
    """
    most = max((len(cases) for cases in regrets.values()), default=0)
    complete = {rule: cases for rule, cases in regrets.items() if cases and len(cases) == most}
    return min(complete, key=lambda rule: _score(complete[rule]), default=None)


def _score(cases: Sequence[float]) -> tuple[int, float, float]:
    finite = [case for case in cases if math.isfinite(case)]
    return len(cases) - len(finite), max(finite, default=math.inf), median(cases)


def choose_rule(table: RegretsByKind, kind: str, *, candidates: Collection[str]) -> Choice:
    """The best rule on the kind; on all kinds together, where the table has no case of it.

    Args:
        table: Regrets of every kind.
        kind: See `network_kind`.
        candidates: Rules that may be taken.

    Returns:
        The choice.

    Raises:
        LawError: The table has no case at all.

    Example:
        >>> choose_rule({"chain, SGD": {"constant": (0.5,), "effective-depth": (0.01,)}},
        ...             "chain, SGD", candidates=CANDIDATES).rule
        'effective-depth'
    """
    own = {rule: cases for rule, cases in table.get(kind, {}).items() if rule in candidates}
    rule = best_rule(own)
    if rule is not None:
        return Choice(rule, f"auto: {rule} for the kind '{kind}': {_record(own[rule])}")
    pooled = {rule: _pooled(table, rule) for rule in candidates}
    rule = best_rule(pooled)
    if rule is None:
        raise LawError(
            "law 'auto' with an empty regret table",
            "regrets of rules on networks of several kinds to choose by",
            "name a law",
        )
    elsewhere = f"no stored case of the kind '{kind}', on others {_record(pooled[rule])}"
    return Choice(rule, f"auto: {rule}; {elsewhere}")


def _pooled(table: RegretsByKind, rule: str) -> tuple[float, ...]:
    return tuple(case for rules in table.values() for case in rules.get(rule, ()))


def _record(cases: Sequence[float]) -> str:
    return (
        f"median relative regret {percent(median(cases))}, worst {percent(max(cases))} "
        f"in {len(cases)} stored cases"
    )


@lru_cache(maxsize=1)
def read_table() -> RegretsByKind:
    """The table that comes with the package.

    Returns:
        Regrets by kind and rule.

    Raises:
        LawError: The table is of another format.

    Example:
        >>> all(isinstance(kind, str) for kind in read_table())
        True
    """
    text = resources.files("etastar.transfer").joinpath(TABLE).read_text(encoding="utf-8")
    stored = json.loads(text)
    if stored.get("format") != TABLE_FORMAT:
        raise LawError(
            f"{TABLE} of format {stored.get('format')!r}",
            f"format {TABLE_FORMAT}",
            "install the package again, or name a law",
        )
    return {
        kind: {
            rule: tuple(math.inf if case is None else float(case) for case in cases)
            for rule, cases in rules.items()
        }
        for kind, rules in stored["kinds"].items()
    }


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

    def bind(self, evidence: Evidence) -> Bound:
        """See `Law.bind`: the chosen law, which may have to be bound in turn."""
        if len(evidence.points) > 1:
            return Bound(FitSizes(), "auto: several tuned networks, the law is fitted to them")
        candidates: dict[str, Callable[[], Law]] = dict(CANDIDATES)
        if evidence.measure is not None:
            candidates[Criterion.name] = Criterion
        kind = network_kind(evidence.points[-1].network, evidence.optimizer)
        choice = choose_rule(read_table(), kind, candidates=tuple(candidates))
        return Bound(candidates[choice.rule](), choice.why)


NAMED_LAWS: Final[Mapping[str, type[Law]]] = MappingProxyType(
    {**LAWS, FitSizes.name: FitSizes, Criterion.name: Criterion, Auto.name: Auto}
)
"""Every law that is taken by name; the last three are made from evidence."""
