"""docs/evidence.md and the table of `law="auto"`, from the stored results.

Run as `python -m studies.evidence`; with `--check` nothing is written, and the exit
code says whether what is there matches.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etastar.transfer import DEFAULT_LAW
from etastar.transfer.auto import CANDIDATES, TABLE, TABLE_FORMAT
from studies.auto_choice import choose_rule
from studies.auto_evidence import (
    AUTO_CANDIDATES,
    auto_rows,
    family_kinds,
    missing_families,
    regrets_by_kind,
)
from studies.experiments.registry import EXPERIMENTS
from studies.regret_page import AutoChoice, RegretEvidence, evidence_document
from studies.regret_table import read_regrets
from studies.reproduce import RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from studies.auto_choice import RegretsByKind
    from studies.auto_evidence import StoredFamily
    from studies.declaration import Scale
    from studies.regret_table import StoredRegret

__all__ = ["documents", "gather_regrets", "main"]

_BATCH = {"auto": "without a batch", "auto with a batch": "with a batch"}


def documents(root: Path, *, scale: Scale = "cpu") -> dict[Path, str]:
    """What the generated files shall hold.

    Args:
        root: Of the repository: it holds studies/results/ and docs/.
        scale: Of the results that count.

    Returns:
        Text by path.

    Raises:
        StorageError: A result cannot be read.
    """
    rows = read_regrets(root / RESULTS, scale=scale)
    kinds = family_kinds(scale, rows)
    evidence = gather_regrets(root, rows, kinds, scale=scale)
    return {
        root / "docs" / "evidence.md": evidence_document(evidence),
        root / "src" / "etastar" / "transfer" / TABLE: _json(regrets_by_kind(rows, kinds)),
    }


def gather_regrets(
    root: Path,
    rows: Sequence[StoredRegret],
    kinds: Mapping[StoredFamily, str],
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
    table = regrets_by_kind(rows, kinds)
    stored = tuple(_stored_fits(root / RESULTS, scale))
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
        missing=missing_families(scale, rows),
        claims=tuple((name, *_claim(one)) for name, fits in stored for one in fits["claims"]),
        exponents=tuple(
            (name, *_exponent(one)) for name, fits in stored for one in fits["exponents"]
        ),
        default_law=DEFAULT_LAW,
    )


def _stored_fits(results: Path, scale: Scale) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Exponents and judged claims of every stored experiment, by its name."""
    for name in EXPERIMENTS:
        path = results / name / scale / "fits.json"
        if path.exists():
            yield name, json.loads(path.read_text(encoding="utf-8"))


def _exponent(fit: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        fit["family"],
        fit["axis"],
        f"{fit['exponent']:.2f}",
        _interval(fit["interval"]),
        f"{fit['r_squared']:.3f}",
        ", ".join(fit["flags"]),
    )


def _claim(claim: Mapping[str, Any]) -> tuple[str, ...]:
    measured, ends = claim["measured"], claim["interval"]
    relation = "" if claim["relation"] == "equal" else "< "
    return (
        claim["statement"],
        claim["source"],
        f"{relation}{claim['claimed']:g}",
        "-" if measured is None else f"{measured:.2f}",
        _interval(ends),
        f"**{claim['verdict']}**",
    )


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


def _json(table: RegretsByKind) -> str:
    """Rule and reason of every kind, without a batch and with one."""
    kinds = {
        kind: {
            _BATCH[name]: asdict(choose_rule(table, kind, candidates=candidates))
            for name, candidates in AUTO_CANDIDATES.items()
        }
        for kind in table
    }
    return json.dumps({"format": TABLE_FORMAT, "kinds": kinds}, indent=1) + "\n"


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
