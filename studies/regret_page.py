"""The regret table in Markdown: by rule, by network, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from studies.page import markdown_table, percent
from studies.regret_table import in_common, rivals, summarize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from studies.regret_table import RuleSummary, StoredRegret

__all__ = ["AutoChoice", "RegretEvidence", "evidence_document"]

FAR = 8.0
"""What counts as far: eight times deeper; nearer targets are in the tables by network."""


@dataclass(frozen=True)
class AutoChoice:
    """What `law="auto"` takes for one kind of network."""

    kind: str
    why: str
    families: tuple[str, ...]


@dataclass(frozen=True)
class RegretEvidence:
    """All that the documents say of regret.

    Attributes:
        scale: Of the stored results.
        rows: Every stored rate, with those of `auto`, each family's chosen without that family.
        choices: What `auto` takes for each kind of network.
        missing: Declared families without stored rates, as "experiment: family".
        claims: (experiment, statement, source, claimed, measured, interval, verdict), as text.
        exponents: (experiment, family, axis, exponent, interval, R^2, flags), as text.
        default_law: What `plan_transfer` takes when nothing is said.
    """

    scale: str
    rows: tuple[StoredRegret, ...]
    choices: tuple[AutoChoice, ...]
    missing: tuple[str, ...]
    claims: tuple[tuple[str, ...], ...]
    exponents: tuple[tuple[str, ...], ...]
    default_law: str

    @property
    def rivals(self) -> tuple[str, ...]:
        """Rules with a lower worst regret than `auto` in all of its cases."""
        plain = [replace(row, rule=row.rule.removesuffix("+mup")) for row in self.rows]
        return rivals(plain, rule="auto")

    @property
    def auto_leads(self) -> bool:
        """Whether all declared families are stored, and no rule has a lower worst regret.

        A default that turned with every experiment that ends would help nobody.
        """
        has_cases = any(row.rule.startswith("auto") for row in self.rows)
        return has_cases and not self.rivals and not self.missing


def evidence_document(evidence: RegretEvidence) -> str:
    """The page docs/evidence.md.

    Args:
        evidence: The stored results.

    Returns:
        Markdown.
    """
    parts = [
        "# Evidence",
        "Generated from the stored results by `python -m studies.evidence`; each experiment's own "
        "page, with every run, optimum and interval, is in studies/results/.",
        f"Scale: {evidence.scale}. Default law: `{evidence.default_law}`.",
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
        "## What `auto` takes",
        _AUTO,
        _default(evidence),
        markdown_table(
            ("network, optimizer", "choice", "families"),
            (
                (one.kind, one.why.removeprefix("auto: "), "; ".join(one.families))
                for one in evidence.choices
            ),
        ),
        "## Regret by network",
        *_by_experiment(evidence.rows),
    ]
    return "\n\n".join(parts) + "\n"


def _default(evidence: RegretEvidence) -> str:
    if not any(row.rule.startswith("auto") for row in evidence.rows):
        return "It has no case yet, so it is not the default."
    if evidence.rivals:
        better = ", ".join(f"`{rule}`" for rule in evidence.rivals)
        return f"It is not the default: in its cases the worst regret of {better} is lower."
    if evidence.missing:
        return (
            "No rule has a lower worst regret in its cases so far; it can be the default once "
            "every declared family is stored."
        )
    return "No rule has a lower worst regret in its cases, so it is the default."


_HOW = """\
Relative regret: loss at the transferred rate minus loss at the target's own optimum, same budget
and seeds, over what that optimum gained from the loss at initialization. A case is one target of
one family; a rule counts in the cases in which it gives a rate. Cost: optimizer steps that tuned
the rule's bases and its own, at the median. `+mup`: with the width rule. `fitted-2`, `fitted-3`:
from two and three tuned sizes. `measured-self`: the criterion after 20 steps at half of its own
rate; it is stored and no longer run. `lr-finder` has no base and tests the target itself."""

_AUTO = """\
The kind of a network is read off its graph: a chain; residual with a branch of one layer; residual
with two layers or more on every branch; each for SGD and for Adam and its like. `auto` takes the
law with the lowest worst regret over the stored cases of the kind, of those that rescale the rate
alone and cost nothing; with a batch to measure on, `measured` is among them. Left out are families
whose initialization is not that of `initialize_`, and cases in which one of these laws gave no
rate, such as those over width alone. The rows `auto` and `auto with a batch` of the tables are
honest about that: each family's law was chosen by the other families, without its own cases.

Relative regret divides by what the target's own optimum gained. Where that is little, because a
deep network learned next to nothing in its budget, small differences of the loss are large shares;
those cases count like all others."""


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
