"""An experiment's claims beside what was measured: its Markdown page, the terminal, plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from etastar.sweep.recipe import format_size
from etastar.sweep.result import SizeResult

if TYPE_CHECKING:
    from studies.records import Evidence, ExponentFit, FamilyEvidence, Judgement, RegretRow

_HOW = """\
An exponent is the slope of log optimal rate over log size, by least squares. Its interval is the
hull of two 95% intervals: of the optima's own intervals (noise of the seeds, error of the grid),
and of Student's t from how the optima lie about the line. *agrees*: the claimed value lies in the
interval, which reaches at most 0.5 to either side; *contradicts*: it lies outside; *undecided*:
anything else. Verdicts are computed.

Relative regret: loss at the transferred rate minus loss at the target's own optimum, over what that
optimum gained from the loss at initialization. Cost: optimizer steps that tuned the rule's bases,
and the rule's own. No run was repeated, left out or chosen by its outcome."""


def evidence_page(evidence: Evidence) -> str:
    """The page.

    Args:
        evidence: What the experiment came to.

    Returns:
        Markdown.
    """
    parts = [
        f"# {evidence.title}",
        f"Scale {evidence.scale}. " + "; ".join(evidence.papers) + ".",
        *(f"- {note}" for note in evidence.notes),
        "## Claimed, measured, verdict",
        markdown_table(
            ("claim", "source", "claimed", "measured", "interval", "verdict", "why"),
            (_claim_row(judgement) for judgement in evidence.judgements),
        ),
        "## Exponents",
        markdown_table(
            ("family", "in", "exponent", "interval", "R^2", "between neighbours", "flags"),
            (_fit_row(family, fit) for family in evidence.families for fit in family.fits),
        ),
        "## Optima",
        markdown_table(
            ("family", "size", "optimal lr", "interval", "loss", "seeds", "runs", "flags"),
            (_size_row(family, one) for family in evidence.families for one in family.sizes),
        ),
        *_regrets(evidence.regrets),
        "## How to read this, and how to get it",
        _HOW,
        f"Command: `{evidence.command}`; {evidence.steps} optimizer steps.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in evidence.versions) + ".",
        markdown_table(("family", "setting", "value"), _setting_rows(evidence.families)),
    ]
    return "\n\n".join(parts) + "\n"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Args:
        head: Headings.
        rows: As many cells each.

    Returns:
        Its lines, joined.

    Example:
        >>> print(markdown_table(("a", "b"), [("1", "2")]))
        | a | b |
        | --- | --- |
        | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _claim_row(judgement: Judgement) -> list[str]:
    claim = judgement.claim
    relation = "" if claim.relation == "equal" else "< "
    return [
        claim.statement,
        claim.source,
        f"{relation}{claim.value:g}",
        "-" if judgement.measured is None else f"{judgement.measured:.2f}",
        _interval(judgement.interval, ".2f"),
        f"**{judgement.verdict}**",
        judgement.reason,
    ]


def _fit_row(family: FamilyEvidence, fit: ExponentFit) -> list[str]:
    between = "; ".join(
        f"{one.from_value:g} to {one.to_value:g}: {one.exponent:.2f}" for one in fit.neighbours
    )
    return [
        family.name,
        fit.axis,
        f"{fit.exponent:.2f}",
        _interval(fit.interval, ".2f"),
        f"{fit.r_squared:.3f}",
        between,
        ", ".join(fit.flags),
    ]


def _size_row(family: FamilyEvidence, one: SizeResult) -> list[str]:
    best = one.optimum
    return [
        family.name,
        format_size(one.size),
        "-" if best is None else f"{best.lr:.4g}",
        "-" if best is None else _interval(best.interval, ".3g"),
        "-" if best is None else f"{best.loss:.4f}",
        "-" if best is None else str(best.num_seeds),
        str(len(one.trials)),
        ", ".join(one.flags),
    ]


def _regrets(rows: Sequence[RegretRow]) -> list[str]:
    if not rows:
        return []
    head = ("family", "rule", "target", "ratio", "lr", "over own optimum", "relative regret")
    table = markdown_table((*head, "interval", "cost in steps"), map(_regret_row, rows))
    return ["## Transfer regret", table]


def _regret_row(row: RegretRow) -> list[str]:
    relative, interval = row.regret.relative, row.regret.relative_interval
    return [
        row.family,
        row.rule,
        format_size(row.target),
        f"{row.ratio:g}",
        f"{row.lr:.4g}",
        f"{row.lr / row.reference_lr:.2f}",
        percent(relative),
        "-" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}",
        str(row.cost_steps),
    ]


def percent(value: float | None) -> str:
    """A share as text; "diverged" where it is infinite, "-" where there is none.

    Args:
        value: 1 is 100%.

    Returns:
        The text.

    Example:
        >>> percent(0.0312)
        '3.1%'
    """
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if isfinite(value) else "diverged"


def _interval(ends: tuple[float, float] | None, spec: str) -> str:
    return "-" if ends is None else f"{ends[0]:{spec}} to {ends[1]:{spec}}"


def _setting_rows(families: Sequence[FamilyEvidence]) -> Iterable[list[str]]:
    """What all families share once, then what each has of its own."""
    shared = set.intersection(*(set(family.settings) for family in families))
    yield from (["all", name, f"`{text}`"] for name, text in sorted(shared))
    for family in families:
        own = (pair for pair in family.settings if pair not in shared)
        yield from ([family.name, name, f"`{text}`"] for name, text in own)


def evidence_table(evidence: Evidence, folder: str) -> RenderableType:
    """Claims beside what was measured; the rest is in the results folder.

    Args:
        evidence: What the experiment came to.
        folder: Where its results were written.

    Returns:
        Something Rich prints.
    """
    table = Table(title=evidence.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("claim", "source", "claimed", "measured", "interval", "verdict"):
        table.add_column(heading)
    for judgement in evidence.judgements:
        table.add_row(*_verdict_cells(judgement))
    return Group(table, Text(f"{evidence.steps} optimizer steps; results in {folder}"))


def _verdict_cells(judgement: Judgement) -> list[str]:
    claim, interval = judgement.claim, judgement.interval
    return [
        claim.statement,
        claim.source,
        ("" if claim.relation == "equal" else "< ") + f"{claim.value:g}",
        "-" if judgement.measured is None else f"{judgement.measured:.2f}",
        "-" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
        judgement.verdict,
    ]


def claim_data(judgement: Judgement) -> dict[str, Any]:
    """A claim beside what was measured as JSON-safe values.

    Args:
        judgement: One of the evidence's.

    Returns:
        Plain data.
    """
    claim = judgement.claim
    return {
        "statement": claim.statement,
        "source": claim.source,
        "family": claim.family,
        "against": claim.against,
        "axis": claim.axis,
        "relation": claim.relation,
        "claimed": claim.value,
        "measured": judgement.measured,
        "interval": None if judgement.interval is None else list(judgement.interval),
        "verdict": judgement.verdict,
        "reason": judgement.reason,
    }
