"""Claims beside slopes, and the page that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from studies.families.claims import CLAIMS, claim_rows
from studies.families.curves import Exponent
from studies.families.declared import FAMILIES
from studies.families.document import KnownKind, evidence_pages

if TYPE_CHECKING:
    from pathlib import Path


def _exponent(value: float, sd: float, *, by_blocks: float, well_posed: bool = True) -> Exponent:
    return Exponent(
        *("resnet-bn", "own", (3, 17), (1, 8), value, sd),
        by_blocks=by_blocks,
        by_blocks_sd=sd,
        well_posed=well_posed,
    )


@pytest.mark.parametrize(
    ("exponent", "verdicts"),
    [
        (_exponent(-1.6, 0.1, by_blocks=-1.2), ("agrees", "contradicts")),
        (_exponent(-1.6, 0.4, by_blocks=-0.2), ("undecided", "contradicts")),
        (_exponent(-1.6, 0.1, by_blocks=-1.2, well_posed=False), ("undecided", "undecided")),
    ],
)
def test_both_counts_are_judged(exponent: Exponent, verdicts: tuple[str, str]) -> None:
    rows = claim_rows({("resnet-bn", "own"): exponent})

    (row,) = (row for row in rows if row[0] == "ResNet with BatchNorm" and row[3] == "resnet-bn")

    assert (row[5], row[7]) == verdicts
    assert row[4] == f"-1.60 ± {1.96 * exponent.sd:.2f}"


def test_a_claimed_range_holds_what_lies_in_it() -> None:
    exponent = _exponent(-1.45, 0.01, by_blocks=-1.0)

    rows = claim_rows({("resnet-am", "own"): exponent})

    (row,) = (row for row in rows if row[3] == "resnet-am")
    assert (row[2], row[5], row[7]) == ("-1.567 to -1.355", "agrees", "contradicts")


def test_what_was_not_run_says_so() -> None:
    rows = tuple(claim_rows({}))

    assert {row[4] for row in rows} == {"not run", "-"}
    families = {family.name: family.parametrizations for family in FAMILIES}
    for claim in CLAIMS:
        for name, parametrization in claim.families:
            assert parametrization in families[name]


def test_the_pages_hold_the_results_pages_and_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Families\n\n[how](../../../families/README.md)\n")
    (tmp_path / "rules.md").write_text("# Rules\n\n[how](../../../families/README.md)\n")
    kinds = (KnownKind("chain, sgd", "own", "-1.40 +- 0.20", ("net -1.5", "other -1.3")),)

    pages = evidence_pages(tmp_path, tmp_path / "none", kinds, (1, 2), default_law="auto")

    assert "## Rules\n\n[how](../studies/families/README.md)" in pages["evidence.md"]
    assert "## Families\n\n[how](../../studies/families/README.md)" in pages["evidence/depth.md"]
    assert "Not run" in pages["evidence/training.md"]
    page = pages["evidence/kinds.md"]
    assert "| chain, sgd | `own` | -1.40 +- 0.20 | net -1.5; other -1.3 |" in page
    assert "2 exponents" in page
    assert "interval holds 1 of them" in page
