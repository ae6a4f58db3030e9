"""An experiment's verdicts for the terminal, and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from etastar.report.evidence import Evidence, Judgement

__all__ = ["claim_data", "evidence_summary", "evidence_table"]


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
        table.add_row(*_row(judgement))
    return Group(table, Text(f"{evidence.steps} optimizer steps; results in {folder}"))


def _row(judgement: Judgement) -> list[str]:
    claim, interval = judgement.claim, judgement.interval
    return [
        claim.statement,
        claim.source,
        ("" if claim.relation == "equal" else "< ") + f"{claim.value:g}",
        "-" if judgement.measured is None else f"{judgement.measured:.2f}",
        "-" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
        judgement.verdict,
    ]


def evidence_summary(evidence: Evidence, folder: str) -> dict[str, Any]:
    """The verdicts and the folder as JSON-safe values.

    Args:
        evidence: What the experiment came to.
        folder: Where its results were written.

    Returns:
        Plain data.
    """
    return {
        "name": evidence.name,
        "scale": evidence.scale,
        "steps": evidence.steps,
        "claims": [claim_data(judgement) for judgement in evidence.judgements],
        "regrets": [row.as_dict() for row in evidence.regrets],
        "results": folder,
    }


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
