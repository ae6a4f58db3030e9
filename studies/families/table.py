"""Pages of a scale: optima and slopes of the families, and what every rule came to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from studies.families.bends import bends, bends_section
from studies.families.claims import claim_rows
from studies.families.curves import FamilyCurves
from studies.families.declared import families_of
from studies.families.judging import rule_summaries
from studies.families.runs import FAMILY_RUNS, RunFile
from studies.page import markdown_table

if TYPE_CHECKING:
    from studies.families.curves import Exponent
    from studies.families.declared import FamilyScale
    from studies.families.judging import Outcome, Summary

_HEAD = """# Families at scale `{scale}`

What the [declaration](../../../families/README.md) says, as far as it was run: {runs} runs. A rate
in brackets is of a size that is not well-posed; such sizes count in no slope, unless the others do
not span a factor of four, which puts the slope in brackets too. A slope is d log eta* / d log
depth, by effective depth and by blocks.

| family | optimizer | parametrization | optimum (blocks: rate) | by effective depth | by blocks |
| --- | --- | --- | --- | --- | --- |
"""

_CLAIMS_HEAD = """
## Claimed and measured

What is claimed was measured without momentum, at constant rates, after one epoch; our families
differ in width, data and schedule. [WU] counts 1 for a residual block and 2 for a Transformer
block, [AM] blocks or layers alone: the second slope is by blocks. Intervals are 95%. A slope whose
sizes are not well-posed decides nothing. Of [AM] there are no slopes a set-up, and no paper trained
a transferred rate.

"""
_CLAIM_COLUMNS = (
    *("setting of the paper", "source", "claimed", "our family"),
    *("by effective depth", "verdict", "by blocks", "verdict"),
)

_RULES_HEAD = """# Rules at scale `{scale}`

Every rule's rate, trained at eight times the base's depth with every seed
([declaration](../../../families/README.md)). Regrets are against the best loss that any rate of
any parametrization's grid reached there, median and (worst); below 0 a rule's rate did better than
the grid. Near: rates within a factor 1.5 of the optimum of the same parametrization. Holds: optima
within the rule's 95% interval, and how many of a true one's are expected there, as these optima
have errors of their own (few seeds, a grid of factor 2). Cost is training compute before the target
starts, as a share of one target run. The default choice knows nothing of the family that it is
judged on. Each summary counts a rule's own well-posed cases. `one rate` is what muP says of depth.
Optuna's rates are read off the target's own curve, in hindsight.

| rule | cases | relative regret | compute regret | near | holds | cost |
| --- | --- | --- | --- | --- | --- | --- |
"""
_CASES_HEAD = """
## Cases

Rates of cases that are not well-posed are in brackets. An error of +1.0 is a rate twice the
optimum's of the same parametrization.

| family | rule | trained under | rate | relative | compute | octaves | interval | holds |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def family_page(scale: FamilyScale, folder: Path = FAMILY_RUNS) -> str:
    """Optima and slopes of all families, as far as they were run.

    Args:
        scale: The scale.
        folder: Where the runs are.

    Returns:
        Markdown, the same for the same runs.
    """
    files = [RunFile(family, scale, folder) for family in families_of(scale)]
    exponents: dict[tuple[str, str], Exponent] = {}
    families = [FamilyCurves(file) for file in files]
    rows = [row for curves in families for row in _rows(curves, exponents)]
    bent = {(c.family.name, name): one for c in families for name, one in bends(c)}
    runs = sum(len(file.read()) for file in files)
    missing = [file.family.name for file in files if not file.read()]
    end = f"\nNot run: {', '.join(missing)}.\n" if missing else ""
    table = "".join(f"{row}\n" for row in rows)
    claims = markdown_table(_CLAIM_COLUMNS, claim_rows(exponents))
    head = _HEAD.format(scale=scale.name, runs=runs)
    return f"{head}{table}{end}{bends_section(bent)}{_CLAIMS_HEAD}{claims}\n"


def _rows(curves: FamilyCurves, exponents: dict[tuple[str, str], Exponent]) -> Iterator[str]:
    """Rows of a family; its slopes are put into `exponents` on the way."""
    family = curves.family
    for parametrization in family.parametrizations:
        cells = []
        for depth in family.sizes(curves.scale):
            curve = curves.curve(parametrization, depth)
            if curve is not None:
                rate = f"{curve.optimum.lr:.2g}"
                posed = curves.well_posed(parametrization, depth)
                cells.append(f"{depth}: {rate if posed else f'({rate})'}")
        ran = any(name == parametrization for name, _ in curves.curves)
        if not ran:
            continue
        found, slopes = curves.exponent(parametrization), ("", "")
        if found is not None:
            exponents[family.name, parametrization] = found
            slopes = (f"{found.value:.2f} ± {found.sd:.2f}", f"{found.by_blocks:.2f}")
            slopes = slopes if found.well_posed else (f"({slopes[0]})", f"({slopes[1]})")
        row = (family.name, family.optimizer, parametrization, ", ".join(cells), *slopes)
        yield f"| {' | '.join(row)} |"


def rules_page(scale: FamilyScale, found: Sequence[Outcome]) -> str:
    """What every rule came to, summed up and case by case.

    Args:
        scale: The scale.
        found: Outcomes of all families.

    Returns:
        Markdown, the same for the same outcomes.
    """
    summaries = "".join(f"{_summary_row(one)}\n" for one in rule_summaries(found))
    cases = "".join(f"{_case_row(one)}\n" for one in found)
    return _RULES_HEAD.format(scale=scale.name) + summaries + _CASES_HEAD + cases


def _summary_row(one: Summary) -> str:
    cells = (
        one.rule,
        str(one.cases),
        f"{_regret(one.relative[0])} ({_regret(one.relative[1])})",
        f"{one.compute[0]:.0%} ({one.compute[1]:.0%})",
        f"{one.near[0]} of {one.near[1]}",
        f"{one.held[0]} of {one.held[1]} ({one.expected:.1f} expected)" if one.held[1] else "",
        f"{one.cost:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def _regret(value: float) -> str:
    return f"{value:.1%}" if isfinite(value) else "diverged"


def _case_row(one: Outcome) -> str:
    offer, rate = one.proposal, f"{one.proposal.lr:.3g}"
    interval = "" if offer.interval is None else "{:.3g} to {:.3g}".format(*offer.interval)
    cells = (
        one.family,
        offer.rule,
        offer.parametrization,
        rate if one.well_posed else f"({rate})",
        _regret(one.relative),
        f"{one.compute:.0%}",
        "" if one.octaves is None else f"{one.octaves:+.1f}",
        interval,
        "" if one.held is None else ("yes" if one.held else "**no**"),
    )
    return f"| {' | '.join(cells)} |"
