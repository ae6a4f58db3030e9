"""How the table of `law="auto"` is made: the rule with the lowest worst regret on a kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from etastar.errors import LawError
from etastar.formatting import percent

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["Choice", "RegretsByKind", "best_rule", "choose_rule"]

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
        ...             "chain, SGD", candidates=("constant", "effective-depth")).rule
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
