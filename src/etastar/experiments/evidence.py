"""docs/evidence.md, the README's table and the table of `law="auto"`, from the stored results.

Run as `python -m etastar.experiments.evidence`; with `--check` nothing is written, and the exit
code says whether what is there matches.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etastar.errors import StorageError
from etastar.experiments.declaration import Family
from etastar.experiments.network import network_architecture
from etastar.experiments.registry import EXPERIMENTS
from etastar.laws import optimizer_kind
from etastar.report.regret_page import (
    AutoChoice,
    RegretEvidence,
    evidence_document,
    readme_block,
)
from etastar.report.regret_table import read_regrets
from etastar.transfer import plan_transfer
from etastar.transfer.auto import CANDIDATES, TABLE, choose_rule, network_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from etastar.experiments.declaration import Scale
    from etastar.report.regret_table import StoredRegret
    from etastar.transfer.auto import RegretsByKind

__all__ = ["documents", "gather_regrets", "main"]

_BEGIN: Final = "<!-- evidence: generated, see docs/evidence.md -->"
_END: Final = "<!-- end of evidence -->"
_TABLED: Final = (*CANDIDATES, "measured", "measured-self")
_WITH_WIDTH: Final = "+mup"
_DIGITS: Final = 6


@dataclass(frozen=True)
class _Place:
    """A family by its experiment and name."""

    experiment: str
    family: str


def documents(root: Path, *, scale: Scale = "cpu") -> dict[Path, str]:
    """What the generated files shall hold.

    Args:
        root: Of the repository: it holds results/, docs/ and README.md.
        scale: Of the results that count.

    Returns:
        Text by path.

    Raises:
        StorageError: A result cannot be read, or the README has lost its markers.
    """
    rows = read_regrets(root / "results", scale=scale)
    kinds = _kinds(scale, rows)
    evidence = gather_regrets(root, rows, kinds, scale=scale)
    table = {"scale": scale, "kinds": _by_kind(rows, kinds)}
    return {
        root / "docs" / "evidence.md": evidence_document(evidence),
        root / "README.md": _with_block(root / "README.md", readme_block(evidence)),
        root / "src" / "etastar" / "transfer" / TABLE: _json(table),
    }


def gather_regrets(
    root: Path,
    rows: Sequence[StoredRegret],
    kinds: Mapping[_Place, str],
    *,
    scale: Scale,
) -> RegretEvidence:
    """All that the documents say.

    Args:
        root: Of the repository.
        rows: The stored rates.
        kinds: Kind of every family that `auto` may learn from.
        scale: Of the results.

    Returns:
        The evidence, with the rows of `auto`.
    """
    table = _by_kind(rows, kinds)
    choices = [
        AutoChoice(
            kind,
            choose_rule(table, kind, candidates=CANDIDATES).why,
            tuple(place.family for place, own in kinds.items() if own == kind),
        )
        for kind in table
    ]
    return RegretEvidence(
        scale=scale,
        rows=(*rows, *auto_rows(rows, kinds)),
        choices=tuple(choices),
        missing=_missing(scale, rows),
        claims=tuple(_claims(root / "results", scale)),
        default_law=inspect.signature(plan_transfer).parameters["law"].default,
    )


def auto_rows(rows: Sequence[StoredRegret], kinds: Mapping[_Place, str]) -> Iterator[StoredRegret]:
    """What `auto` would have come to in each case, its law chosen without the case's family.

    Args:
        rows: The stored rates.
        kinds: Kind of every family that it may learn from.

    Yields:
        The chosen rule's row under the name "auto".
    """
    for place, kind in kinds.items():
        others = {other: own for other, own in kinds.items() if other != place}
        table = _by_kind(rows, others)
        if not table:
            continue
        rule = choose_rule(table, kind, candidates=CANDIDATES).rule
        for row in rows:
            name, width = _split(row.rule)
            if _place(row) == place and name == rule:
                yield replace(row, rule=f"auto{width}")


def _place(row: StoredRegret) -> _Place:
    return _Place(row.experiment, row.family)


def _split(rule: str) -> tuple[str, str]:
    """A rule's name without the mark of the width rule, and the mark."""
    name = rule.removesuffix(_WITH_WIDTH)
    return name, rule[len(name) :]


def _by_kind(rows: Iterable[StoredRegret], kinds: Mapping[_Place, str]) -> RegretsByKind:
    """The table that `auto` chooses by; cases whose target did not learn say nothing."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for row in sorted(rows, key=lambda row: row.case):
        kind, rule = kinds.get(_place(row)), _split(row.rule)[0]
        if kind is None or rule not in _TABLED or row.relative is None:
            continue
        of_kind = found.setdefault(kind, {})
        of_kind[rule] = (*of_kind.get(rule, ()), round(row.relative, _DIGITS))
    return {kind: dict(sorted(found[kind].items())) for kind in sorted(found)}


def _families(scale: Scale) -> Iterator[tuple[_Place, Family]]:
    """Every declared family from which rates are transferred."""
    for name, study in EXPERIMENTS.items():
        for family in study(scale).families:
            if isinstance(family, Family) and family.targets:
                yield _Place(name, family.name), family


def _kinds(scale: Scale, rows: Sequence[StoredRegret]) -> dict[_Place, str]:
    """Kind of every stored family whose initialization is `initialize_`'s own."""
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


def _missing(scale: Scale, rows: Sequence[StoredRegret]) -> tuple[str, ...]:
    stored = {_place(row) for row in rows}
    return tuple(
        f"{place.experiment}: {place.family}"
        for place, _ in _families(scale)
        if place not in stored
    )


def _claims(results: Path, scale: Scale) -> Iterator[tuple[str, ...]]:
    for name in EXPERIMENTS:
        path = results / name / scale / "fits.json"
        if path.exists():
            for claim in json.loads(path.read_text(encoding="utf-8"))["claims"]:
                yield (name, *_claim(claim))


def _claim(claim: Mapping[str, Any]) -> tuple[str, ...]:
    measured, ends = claim["measured"], claim["interval"]
    relation = "" if claim["relation"] == "equal" else "< "
    return (
        claim["statement"],
        claim["source"],
        f"{relation}{claim['claimed']:g}",
        "-" if measured is None else f"{measured:.2f}",
        "-" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}",
        f"**{claim['verdict']}**",
    )


def _with_block(path: Path, block: str) -> str:
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise StorageError(
            f"{path} without the lines {_BEGIN!r} and {_END!r}",
            "both, with what is generated between them",
            "put them where the table shall stand",
        )
    return f"{before}{begin}\n\n{block}\n\n{end}{after}"


def _json(table: Mapping[str, Any]) -> str:
    kinds = {
        kind: {
            rule: [case if isfinite(case) else None for case in cases]
            for rule, cases in rules.items()
        }
        for kind, rules in table["kinds"].items()
    }
    return json.dumps({**table, "kinds": kinds}, indent=1, allow_nan=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the generated files, or check them.

    Args:
        arguments: Of the command line; None for the process's own.

    Returns:
        0, or 1 where `--check` found a file that does not match.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="of the repository")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args(arguments)
    wrong = 0
    for path, text in documents(options.root).items():
        same = path.exists() and path.read_text(encoding="utf-8") == text
        if not same and not options.check:
            path.write_text(text, encoding="utf-8")
        if not same:
            wrong += 1
            sys.stdout.write(f"{path}: {'does not match' if options.check else 'written'}\n")
    return 1 if wrong and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
