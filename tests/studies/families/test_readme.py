"""Every number of the README is one of the stored results, or what its own code prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from studies.families.runs import FAMILY_RUNS

_README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
_RULES = (FAMILY_RUNS / "cpu" / "rules.md").read_text(encoding="utf-8")
_NAMES = {
    "one rate for all depths": "one rate",
    "depth^(-3/2)": "-3/2",
    "learning-rate range test": "range test",
    "Optuna at the target at the same cost, in hindsight": "Optuna",
    "**default choice**, one tuned size": "default choice",
    "**default choice**, two tuned sizes": "default choice, two sizes",
}


def _rows(text: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| ")]
    rows: dict[str, list[str]] = {}
    for name, *cells in lines:
        rows.setdefault(name.strip(), [cell.strip() for cell in cells])
    return rows


def test_the_table_of_rules_is_that_of_the_results() -> None:
    shown, stored = _rows(_README), _rows(_RULES)
    for title, rule in _NAMES.items():
        median, worst, near = shown[title]
        cells = stored[rule]
        assert f"{median} ({worst})" == cells[1], rule
        assert near == cells[3], rule
    one, two = (stored[rule][4] for rule in ("default choice", "default choice, two sizes"))
    assert f"interval held the optimum in {one}, from two sizes in {two}" in _README


def test_the_plan_is_what_the_eight_lines_print() -> None:
    match = re.search(
        r"^```python\n(.*?)^```\n\n((?:    [^\n]*\n|\n)+)", _README, re.MULTILINE | re.DOTALL
    )
    assert match is not None
    code, below = match.groups()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {"__name__": "example"})
    lines = [line.strip() for line in printed.getvalue().splitlines()]
    shown = [line.strip() for line in below.splitlines() if line.strip() not in ("", "...")]
    assert len(shown) > 10
    assert [line for line in shown if line not in lines] == []


def test_the_readme_is_short() -> None:
    assert len(_README.splitlines()) <= 120
