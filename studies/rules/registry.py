"""The transfer rules that the regret table compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from studies.rules.computed import ByLaw, FittedRule, StructureRule
from studies.rules.measured import MeasuredRule
from studies.rules.peers import LRFinderRule, MupRule

if TYPE_CHECKING:
    from studies.declaration import Family
    from studies.rules.base import Rule

RULES: Final[tuple[Rule, ...]] = (
    ByLaw("constant"),
    ByLaw("effective-depth"),
    ByLaw("path-sum"),
    ByLaw("nominal-depth"),
    StructureRule(),
    MeasuredRule(),
    FittedRule(2),
    FittedRule(3),
    LRFinderRule(),
    MupRule(),
)


def rules_of(family: Family) -> tuple[tuple[str, Rule], ...]:
    """The rules that are tried on a family, under the names that stand in tables.

    A family whose parametrization holds a depth law keeps the base's rate, which the plan carries:
    that is the law's own rule and stands under the law's name. "+mup" says that a plan carries
    the rate across width.

    Args:
        family: The declaration.

    Returns:
        (label, rule) pairs.

    Example:
        >>> [rule.name for rule in RULES][:2]
        ['constant', 'effective-depth']
    """
    chosen = family.parametrization
    suffix = "+mup" if chosen is not None and chosen.width == "mup" else ""
    if chosen is not None and chosen.law != "constant":
        return ((f"{chosen.law}{suffix}", RULES[0]),)
    wanted = RULES if family.rules is None else [r for r in RULES if r.name in family.rules]
    return tuple((f"{rule.name}{suffix}", rule) for rule in wanted)
