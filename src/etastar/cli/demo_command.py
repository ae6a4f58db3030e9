"""`etastar demo`: see `etastar.demo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from etastar.cli.application import app, clear_errors, print_result, working
from etastar.cli.options import AsJSON, Debug
from etastar.formatting import Shown, interval, number, percent


@dataclass(frozen=True)
class DemoResult(Shown):
    """What came out for each rule; see `etastar.demo.compare_rules`."""

    rules: tuple[dict[str, Any], ...]

    def __rich__(self) -> Table:
        """A row for each rule."""
        table = Table("rule", "learning rate", "95% interval", "final loss", "relative regret")
        for row in self.rules:
            ends = interval(*row["interval"]) if row.get("interval") else ""
            measures = number(row["loss"]), percent(row["relative_regret"])
            table.add_row(row["rule"], number(row["lr"]), ends, *measures)
        return table


@app.command()
@clear_errors
def demo(as_json: AsJSON = False, debug: Debug = False) -> None:
    """The main job on real data: tune a shallow GPT, train one eight times deeper."""
    with working("training GPTs of 2 and 16 blocks, about two minutes"):
        from etastar.demo import compare_rules

        result = DemoResult(compare_rules())
    print_result(as_json, result)
