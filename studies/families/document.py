"""The pages of the evidence: what every rule came to, what the families say, what `auto` knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.page import markdown_table


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


def evidence_pages(
    folder: Path,
    training: Path,
    kinds: Sequence[KnownKind],
    held: tuple[int, int],
    *,
    default_law: str,
) -> dict[str, str]:
    """The pages of the evidence, one for each question.

    Args:
        folder: Results of the families at one scale.
        training: Results of batch size and duration at that scale.
        kinds: What `law="auto"` expects of each kind of network.
        held: Of how many exponents, expected from the other families, the interval held how many.
        default_law: What `plan_transfer` takes when nothing is said.

    Returns:
        Markdown by path within docs/.
    """
    expected = (
        (one.kind, f"`{one.parametrization}`", one.expected, "; ".join(one.families))
        for one in kinds
    )
    known = (
        "# What does `auto` know?",
        _AUTO,
        f"Expected from the other families alone, {held[1]} exponents of kinds with three families "
        f"or more: the 95% interval holds {held[0]} of them.",
        markdown_table(("kind", "parametrization", "expected exponent", "families"), expected),
    )
    head = _HEAD.format(default_law=default_law)
    return {
        "evidence.md": "\n\n".join((head, _part(folder / "rules.md", ".."))).strip() + "\n",
        "evidence/depth.md": _page(_DEPTH, _part(folder / "README.md", "../..")),
        "evidence/kinds.md": "\n\n".join(known) + "\n",
        "evidence/training.md": _page(_TRAINING, _part(training / "README.md", "../..")),
    }


_HEAD = """\
# Evidence: which rule for which network?

In the way people train. Generated from the stored results by `python -m studies.evidence`.
Networks, recipes, sizes, seeds and measures were [declared](../studies/families/README.md) before
any run; what was added or changed later is named there. Every run is kept. Default law:
`{default_law}`. Other questions have pages of their own:

- [How does the best rate go over depth?](evidence/depth.md) Every curve, and what the papers claim.
- [Does it follow batch size and duration?](evidence/training.md)
- [What does `auto` know?](evidence/kinds.md) Exponents by kind of network.
- [The first evidence, and why it does not decide](first_evidence.md)."""

_DEPTH = "# How does the best rate go over depth?"
_TRAINING = "# Does the best rate follow batch size and duration?"

_AUTO = """\
Exponent of the best rate in effective depth, by kind of network (read off its graph) and by what is
in force beside the rate: `own`, an initialization without 1/K; `stabilized`, that of `initialize_`;
`complete-p`, `depth-mup`, a law's multipliers. Expected of a new family: the mean of the kind, and
a standard deviation by random effects, of how families differ and of each fit's own error, at most
0.5. A kind with a single family is answered by the structure law with 0.5. Families of one
experiment that differ in the optimizer, the length or the parametrization alone share a name and
are left out together. Families that are not in [the curves](depth.md) are of the
[first evidence](../first_evidence.md)."""


def _page(title: str, text: str) -> str:
    return f"{title}\n\n{text or 'Not run at this scale.'}\n"


def _part(path: Path, root: str) -> str:
    """A page of the results as a section of another: its links lead from there."""
    if not path.exists():
        return ""
    text = path.read_text(encoding="utf-8").strip().replace("](../../../", f"]({root}/studies/")
    return f"#{text}"
