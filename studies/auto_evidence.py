"""What `law="auto"` learns from the stored results, and what it would have come to in each case."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from etastar.optimizers import optimizer_kind
from etastar.transfer.auto import CANDIDATES, network_kind
from studies.auto_choice import choose_rule
from studies.declaration import Family
from studies.experiments.registry import EXPERIMENTS
from studies.network import network_architecture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from studies.auto_choice import RegretsByKind
    from studies.declaration import Scale
    from studies.regret_table import StoredRegret

__all__ = [
    "AUTO_CANDIDATES",
    "StoredFamily",
    "auto_rows",
    "family_kinds",
    "missing_families",
    "regrets_by_kind",
]

AUTO_CANDIDATES: Final = {"auto": CANDIDATES, "auto with a batch": (*CANDIDATES, "measured")}
"""What `auto` chooses from, by its name in the tables."""

_TABLED: Final = (*CANDIDATES, "measured")
_WITH_WIDTH: Final = "+mup"
_DIGITS: Final = 6


@dataclass(frozen=True)
class StoredFamily:
    """A family by its experiment and name."""

    experiment: str
    family: str


def auto_rows(
    rows: Sequence[StoredRegret], kinds: Mapping[StoredFamily, str]
) -> Iterator[StoredRegret]:
    """What `auto` would have come to in each case, its law chosen without the case's family.

    Args:
        rows: The stored rates.
        kinds: Kind of every family that it may learn from.

    Yields:
        The chosen rule's row under the name "auto"; under another where a batch is given, so that
        `measured` may be chosen too.
    """
    rows = tuple(rows)
    for place, kind in kinds.items():
        others = {other: own for other, own in kinds.items() if other != place}
        table = regrets_by_kind(rows, others)
        if not table:
            continue
        for label, candidates in AUTO_CANDIDATES.items():
            rule = choose_rule(table, kind, candidates=candidates).rule
            for row in rows:
                name, width = _split(row.rule)
                if _place(row) == place and name == rule and row.case in _comparable(rows):
                    yield replace(row, rule=f"{label}{width}")


@lru_cache(maxsize=4)
def _comparable(rows: tuple[StoredRegret, ...]) -> frozenset[tuple[str, str, str]]:
    """Cases in which every candidate gave a rate; not those over width alone."""
    rules: dict[tuple[str, str, str], set[str]] = {}
    for row in rows:
        rules.setdefault(row.case, set()).add(_split(row.rule)[0])
    return frozenset(case for case, found in rules.items() if found.issuperset(CANDIDATES))


def _place(row: StoredRegret) -> StoredFamily:
    return StoredFamily(row.experiment, row.family)


def _split(rule: str) -> tuple[str, str]:
    """A rule's name without the mark of the width rule, and the mark."""
    name = rule.removesuffix(_WITH_WIDTH)
    return name, rule[len(name) :]


def regrets_by_kind(
    rows: Iterable[StoredRegret], kinds: Mapping[StoredFamily, str]
) -> RegretsByKind:
    """The table that `auto` chooses by.

    Args:
        rows: The stored rates; cases whose target did not learn say nothing, nor those in which a
            candidate gave no rate: the others would be compared on what it was spared.
        kinds: Kind of every family that it may learn from.

    Returns:
        Relative regrets by kind and rule; a rule with the width rule counts under its own name.
    """
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    rows = tuple(rows)
    comparable = _comparable(rows)
    for row in sorted(rows, key=lambda row: row.case):
        kind, rule = kinds.get(_place(row)), _split(row.rule)[0]
        if kind is None or rule not in _TABLED or row.case not in comparable:
            continue
        if row.relative is None:
            continue
        of_kind = found.setdefault(kind, {})
        of_kind[rule] = (*of_kind.get(rule, ()), round(row.relative, _DIGITS))
    return {kind: dict(sorted(found[kind].items())) for kind in sorted(found)}


def _families(scale: Scale) -> Iterator[tuple[StoredFamily, Family]]:
    """Every declared family from which rates are transferred."""
    for name, study in EXPERIMENTS.items():
        for family in study(scale).families:
            if isinstance(family, Family) and family.targets:
                yield StoredFamily(name, family.name), family


def family_kinds(scale: Scale, rows: Sequence[StoredRegret]) -> dict[StoredFamily, str]:
    """Kind of every stored family that `auto` may learn from.

    Args:
        scale: Of the declarations.
        rows: The stored rates.

    Returns:
        Kinds of the families that are initialized as `initialize_` does by default, their forward
        pass and their groups without a factor on the branches.
    """
    stored = {_place(row) for row in rows}
    return {
        place: network_kind(
            network_architecture(family.network, family.bases[0]),
            optimizer_kind(family.optimizer.name),
        )
        for place, family in _families(scale)
        if place in stored and _is_learnt_from(family)
    }


def _is_learnt_from(family: Family) -> bool:
    chosen = family.parametrization
    plain = chosen is None or (chosen.law == "constant" and chosen.width == "mup")
    scaled = getattr(family.initialization, "residual", None) == "all"
    power = getattr(family.initialization, "power", 1.0)
    branches = getattr(family.network, "branch_power", 0.0)
    return plain and scaled and power == 1.0 and branches == 0.0


def missing_families(scale: Scale, rows: Sequence[StoredRegret]) -> tuple[str, ...]:
    """Declared families that the stored results do not hold.

    Args:
        scale: Of the declarations.
        rows: The stored rates.

    Returns:
        "experiment: family" of each.
    """
    stored = {_place(row) for row in rows}
    return tuple(
        f"{place.experiment}: {place.family}"
        for place, _ in _families(scale)
        if place not in stored
    )
