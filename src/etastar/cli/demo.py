"""`etastar demo`."""

from __future__ import annotations

from etastar.cli.application import app, clear_errors, print_result
from etastar.cli.options import AsJSON, Debug
from etastar.cli.progress import stage_progress

__all__ = ["demo"]


@app.command()
@clear_errors
def demo(as_json: AsJSON = False, debug: Debug = False) -> None:
    """The main job on real data: tune on a shallow network, train one six times deeper."""
    from etastar.experiments.demo import run_demo
    from etastar.report.demo_table import demo_table

    with stage_progress() as on_progress:
        result = run_demo(on_progress=on_progress)
    print_result(as_json, result.as_dict(), lambda: demo_table(result))
