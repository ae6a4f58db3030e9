"""`etastar demo`: see `etastar.demo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from etastar.cli.application import app, clear_errors, print_result, working
from etastar.cli.options import AsJSON, Debug
from etastar.formatting import Shown


@dataclass(frozen=True)
class DemoResult(Shown):
    """What came out for each rule; see `etastar.demo.compare_rules`."""

    rules: tuple[dict[str, Any], ...]

    def __rich__(self) -> Table:
        """A row for each rule, as a report has it."""
        from etastar.report.sweep_sections import rules_section

        (panel,) = rules_section(self.as_dict()).panels
        table = Table(*panel.headings)
        for row in panel.rows:
            table.add_row(*row)
        return table


@app.command()
@clear_errors
def demo(as_json: AsJSON = False, debug: Debug = False) -> None:
    """The main job on real data: tune a shallow GPT, train one eight times deeper."""
    with working("training GPTs of 2 and 16 blocks, about two minutes"):
        from etastar.demo import compare_rules

        result = DemoResult(compare_rules())
    print_result(as_json, result)
