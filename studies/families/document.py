"""docs/evidence.md: what the families say, what every rule came to, what `auto` knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studies.page import markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["KnownKind", "evidence_document"]


@dataclass(frozen=True)
class KnownKind:
    """What `law="auto"` expects of one kind of network under one parametrization.

    Attributes:
        kind: In words, with the update of its optimizer.
        parametrization: What is in force.
        expected: Mean and standard deviation for a new family, as text; "-" with a single one.
        families: Name and exponent of each.
    """

    kind: str
    parametrization: str
    expected: str
    families: tuple[str, ...]


def evidence_document(
    folder: Path, kinds: Sequence[KnownKind], held: tuple[int, int], *, default_law: str
) -> str:
    """The page docs/evidence.md.

    Args:
        folder: Results of the families at one scale; their pages are part of this one.
        kinds: What `law="auto"` expects of each kind of network.
        held: Of how many exponents, expected from the other families, the interval held how many.
        default_law: What `plan_transfer` takes when nothing is said.

    Returns:
        Markdown.
    """
    expected = (
        (one.kind, f"`{one.parametrization}`", one.expected, "; ".join(one.families))
        for one in kinds
    )
    parts = [
        _HEAD.format(default_law=default_law),
        *(_part(folder / name) for name in ("rules.md", "README.md")),
        "## What `auto` knows",
        _AUTO,
        f"Expected from the other families alone, {held[1]} exponents of kinds with three families "
        f"or more: the 95% interval holds {held[0]} of them.",
        markdown_table(("kind", "parametrization", "expected exponent", "families"), expected),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_HEAD = """\
# Evidence

Which rule for which network, in the way people train. Generated from the stored results by
`python -m studies.evidence`. Networks, recipes, sizes, seeds and measures were
[declared](../studies/families/README.md) before any run; what was added or changed later is named
there. Every run is kept. Default law:
`{default_law}`. The [first evidence](first_evidence.md) has a page of its own."""

_AUTO = """\
Exponent of the best rate in effective depth, by kind of network (read off its graph) and by what is
in force beside the rate: `own`, an initialization without 1/K; `stabilized`, that of `initialize_`;
`complete-p`, `depth-mup`, a law's multipliers. Expected of a new family: the mean of the kind, and
a standard deviation by random effects, of how families differ and of each fit's own error, at most
0.5. A kind with a single family is answered by the structure law with 0.5. Families of one
experiment that differ in the optimizer, the length or the parametrization alone share a name and
are left out together. Families without a page above are of the first evidence."""


def _part(path: Path) -> str:
    """A page of the results as a section of this one: its links lead from docs/."""
    if not path.exists():
        return ""
    text = (
        path.read_text(encoding="utf-8")
        .strip()
        .replace("](../../../families", "](../studies/families")
    )
    return f"#{text}"
