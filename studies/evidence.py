"""The pages of the evidence in docs/ and what `law="auto"` knows, from stored results.

Run as `python -m studies.evidence`; with `--check` nothing is written, and the exit
code says whether what is there matches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etastar.transfer import DEFAULT_LAW, Experience
from studies.declaration import Family
from studies.experience import experience_document, first_evidence, judged_without_itself
from studies.experiments.registry import EXPERIMENTS
from studies.families.document import KnownKind, evidence_pages
from studies.families.knowing import stored_family_experience, with_first_evidence
from studies.regret_page import RegretEvidence, first_evidence_document
from studies.regret_table import read_regrets
from studies.reproduce import RESULTS

if TYPE_CHECKING:
    from studies.declaration import Scale
    from studies.regret_table import StoredRegret


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
    known = with_first_evidence(
        stored_family_experience(root / RESULTS / "families", scale=scale),
        first_evidence(root / RESULTS, scale=scale),
    )
    judged = [held for _, held in judged_without_itself(known) if held is not None]
    pages = evidence_pages(
        root / RESULTS / "families" / scale,
        root / RESULTS / "batch_duration" / scale,
        tuple(known_kinds(known)),
        (sum(judged), len(judged)),
        default_law=DEFAULT_LAW,
    )
    first = first_evidence_document(gather_regrets(root, scale=scale))
    return {
        **{root / "docs" / name: page for name, page in pages.items()},
        root / "docs" / "first_evidence.md": first,
        root / "src" / "etastar" / "transfer" / "experience.json": experience_document(known),
    }


def gather_regrets(root: Path, *, scale: Scale) -> RegretEvidence:
    """All that the page of the first evidence says.

    Args:
        root: Of the repository.
        scale: Of the results.

    Returns:
        The evidence.
    """
    rows = read_regrets(root / RESULTS, scale=scale)
    stored = tuple(_stored_fits(root / RESULTS, scale))
    return RegretEvidence(
        scale=scale,
        rows=rows,
        missing=_missing_families(scale, rows),
        claims=tuple((name, *_claim(one)) for name, fits in stored for one in fits["claims"]),
        exponents=tuple(
            (name, *_exponent(one)) for name, fits in stored for one in fits["exponents"]
        ),
    )


def known_kinds(known: Experience) -> Iterator[KnownKind]:
    """What the default choice expects of each kind of network.

    Args:
        known: All that it knows.

    Yields:
        A kind under a parametrization, with its families.
    """
    keys = dict.fromkeys((one.kind, one.parametrization) for one in known.records if one.well_posed)
    for kind, parametrization in keys:
        prior = known.prior(kind, parametrization)
        yield KnownKind(
            f"{kind}, {kind.update}",
            parametrization,
            "-" if prior is None else f"{prior.mean:.2f} +- {prior.sd:.2f}",
            tuple(
                f"{one.family} {one.exponent:.2f} +- {one.exponent_sd:.2f}"
                for one in known.records
                if one.well_posed and (one.kind, one.parametrization) == (kind, parametrization)
            ),
        )


def _missing_families(scale: Scale, rows: Sequence[StoredRegret]) -> tuple[str, ...]:
    """Declared families from which rates are transferred, and that the results do not hold."""
    stored = {(row.experiment, row.family) for row in rows}
    return tuple(
        f"{name}: {family.name}"
        for name, study in EXPERIMENTS.items()
        for family in study(scale).families
        if isinstance(family, Family) and family.targets and (name, family.name) not in stored
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
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if not same:
            wrong += 1
            sys.stdout.write(f"{path}: {'does not match' if options.check else 'written'}\n")
    return 1 if wrong and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
