"""One file with everything in it: sections, figures, the networks drawn, and Plotly once."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version

from etastar.errors import MissingExtraError, ReportError, StorageError
from etastar.report.charts import Chart, Section
from etastar.report.drawing import draw_network
from etastar.report.plotly_figure import chart_figure
from etastar.report.sections import section_of
from etastar.transfer.plan_file import write_text

_PACKAGES = ("etastar", "torch", "numpy", "plotly")


def write_report(
    path: str | os.PathLike[str], *results: object, title: str = "", command: str = ""
) -> None:
    """Write a page of results that asks no network for anything, for people who were not there.

    A table stands beside every figure; the network of a graph, or of a plan that was just made, is
    drawn with its shortest path. The page is 5 MB, of which Plotly is nearly all.

    Args:
        path: The file; replaced if it exists.
        *results: Plans, graphs, depth reports, measurements, scans, coordinate checks, sweeps,
            fits, tunings, or the plain data of their JSON; of other results their text.
        title: Of the page.
        command: What made the results, to be shown.

    Raises:
        MissingExtraError: Plotly is not installed.
        ReportError: There is no result, or one is unknown.
        StorageError: The file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from etastar.fit import fit_power_law
        >>> page = pathlib.Path(tempfile.mkdtemp(), "report.html")
        >>> write_report(page, fit_power_law([2, 8], [1.0, 0.125]), title="Two depths")
        >>> "<h1>Two depths</h1>" in page.read_text()
        True
    """
    if not results:
        raise ReportError("no result", "one result or more", "give what is to be shown")
    sections = [section_of(result) for result in results]
    text = page_text(sections, title=title or "etastar report", command=command)
    write_text(path, text, what="page", error=StorageError)


def page_text(sections: list[Section], *, title: str, command: str = "", live: bool = False) -> str:
    """The page as HTML; a live one is served, and asks its server for what is new.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtraError("plotly", "plotly") from error
    loader = PackageLoader("etastar.report", "assets")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html").render(
        title=title,
        command=command,
        written=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        versions=", ".join(_versions()),
        sections=sections,
        plotly=get_plotlyjs() if live or any(one.charts for one in sections) else "",
        live=live,
        draw_network=draw_network,
        chart_json=_chart_json,
    )


def _versions() -> list[str]:
    numbers = {"Python": platform.python_version()}
    return [f"{k} {v}" for k, v in {**numbers, **{one: version(one) for one in _PACKAGES}}.items()]


def _chart_json(chart: Chart) -> str:
    """A figure as JSON that cannot end the script it stands in."""
    text: str = chart_figure(chart).to_json()
    return text.replace("<", "\\u003c")
