"""The regret table in Markdown: by rule, by network, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studies.page import markdown_table, percent
from studies.regret_table import in_common, summarize

if TYPE_CHECKING:
    from studies.regret_table import RuleSummary, StoredRegret

FAR = 8.0
"""What counts as far: eight times deeper; nearer targets are in the tables by network."""


@dataclass(frozen=True)
class RegretEvidence:
    """All that the documents say of regret.

    Attributes:
        scale: Of the stored results.
        rows: Every stored rate.
        missing: Declared families without stored rates, as "experiment: family".
        claims: (experiment, statement, source, claimed, measured, interval, verdict), as text.
        exponents: (experiment, family, axis, exponent, interval, R^2, flags), as text.
    """

    scale: str
    rows: tuple[StoredRegret, ...]
    missing: tuple[str, ...]
    claims: tuple[tuple[str, ...], ...]
    exponents: tuple[tuple[str, ...], ...]


def first_evidence_document(evidence: RegretEvidence) -> str:
    """The page docs/first_evidence.md.

    Args:
        evidence: The stored results.

    Returns:
        Markdown.
    """
    parts = [
        "# First evidence, and why it does not decide",
        _WHY,
        "Generated from the stored results by `python -m studies.evidence`; each experiment's own "
        "page, with every run, optimum and interval, is in studies/results/.",
        f"Scale: {evidence.scale}.",
        _missing(evidence.missing),
        "## Claimed and measured",
        markdown_table(
            ("experiment", "claim", "source", "claimed", "measured", "interval", "verdict"),
            evidence.claims,
        ),
        "## Exponents",
        "Of the optimal learning rate in the size named. Of the random graphs' lines, R^2 says "
        "which depth predicts the optimum best.",
        markdown_table(
            ("experiment", "family", "in", "exponent", "interval", "R^2", "flags"),
            evidence.exponents,
        ),
        "## Regret by rule",
        _HOW,
        "At least eight times from the base, in the cases in which each of these rules gave a "
        "rate:",
        _rules(summarize(in_common(row for row in evidence.rows if row.ratio >= FAR)[0])),
        "At least eight times from the base, every rule in all of its own cases, which are not the "
        "same:",
        _rules(summarize(evidence.rows, least_ratio=FAR)),
        "All targets:",
        _rules(summarize(evidence.rows)),
        "## Regret by network",
        *_by_experiment(evidence.rows),
    ]
    return "\n\n".join(parts) + "\n"


_WHY = """\
Width 32, 100 steps at a constant rate, two seeds, mostly from a base of one block: noise decides.
Most verdicts are "undecided", the worst regrets are of networks that learn nothing, and on another
machine the order of the rules came out differently. It stays for what it contradicts, and where the
[second evidence](evidence.md) is silent the default choice hears it."""

_HOW = """\
Relative regret: loss at the transferred rate minus loss at the target's own optimum, same budget
and seeds, over what that optimum gained from the loss at initialization. A case is one target of
one family; a rule counts in the cases in which it gives a rate. Cost: optimizer steps that tuned
the rule's bases and its own, at the median. `+mup`: with the width rule. `fitted-2`, `fitted-3`:
from two and three tuned sizes. `measured-self`: the criterion after 20 steps at half of its own
rate; it is stored and no longer run. `lr-finder` has no base and tests the target itself."""


def _rules(summaries: Sequence[RuleSummary]) -> str:
    return markdown_table(
        (
            "rule",
            "cases",
            "diverged",
            "median",
            "worst",
            "within 2%",
            "within 10%",
            "steps it cost",
        ),
        (
            (
                f"`{one.rule}`",
                str(one.num_cases),
                str(one.num_diverged),
                percent(one.median),
                percent(one.worst),
                *(f"{100 * share:.0f}%" for share in one.within),
                f"{one.median_cost:.0f}",
            )
            for one in summaries
        ),
    )


def _by_experiment(rows: Sequence[StoredRegret]) -> Iterable[str]:
    for experiment in dict.fromkeys(row.experiment for row in rows):
        own = [row for row in rows if row.experiment == experiment]
        rules = tuple(dict.fromkeys(row.rule for row in own))
        yield f"### {experiment}"
        yield markdown_table(
            ("network", "target", *(f"`{rule}`" for rule in rules)), _cases(own, rules)
        )


def _cases(rows: Sequence[StoredRegret], rules: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """A line for each group and target: families of one group share it where rules differ."""
    for group, target in dict.fromkeys((row.group, row.target) for row in rows):
        here = [row for row in rows if (row.group, row.target) == (group, target)]
        cells = ("; ".join(_cell(row) for row in here if row.rule == rule) for rule in rules)
        yield (group, target, *(cell or "-" for cell in cells))


def _cell(row: StoredRegret) -> str:
    if row.relative is None:
        return "target did not learn"
    if row.interval is None:
        return percent(row.relative)
    low, high = (f"{100 * end:.1f}" for end in row.interval)
    return f"{percent(row.relative)} [{low}, {high}]"


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return "Every declared family is in the stored results."
    return "Declared but not in the stored results: " + "; ".join(missing) + "."
