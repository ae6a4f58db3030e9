"""Charts by Matplotlib, for papers: SVG, PDF or PNG, without a browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etastar.errors import MissingExtraError, ReportError, StorageError
from etastar.formatting import shorten_middle
from etastar.report.charts import Axis, Chart, Section, Series
from etastar.report.plotly_figure import color_of
from etastar.report.sections import section_of

_FORMATS = (".svg", ".pdf", ".png")
_WIDTH, _HEIGHT, _ROW = 4.8, 3.4, 0.17  # inches of a panel, and of a row of a heat map
_LEGEND = 40  # characters
_MOST_NAMED = 9  # series in a legend


def save_figure(path: str | os.PathLike[str], *results: object) -> None:
    """Write the charts of results side by side, as a paper has them.

    Args:
        path: A file that ends in .svg, .pdf or .png.
        *results: As `write_report` takes them.

    Raises:
        MissingExtraError: Matplotlib is not installed.
        ReportError: A result is unknown, there is no chart of any, or the ending is another.
        StorageError: The file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from etastar.fit import fit_power_law
        >>> paper = pathlib.Path(tempfile.mkdtemp(), "fit.svg")
        >>> save_figure(paper, fit_power_law([2, 8], [1.0, 0.125]))
        >>> "<svg" in paper.read_text()
        True
    """
    ending = Path(path).suffix.lower()
    if ending not in _FORMATS:
        raise ReportError(f"a figure {str(path)!r}", "a name in .svg, .pdf or .png", "rename it")
    sections: list[Section] = [section_of(result) for result in results]
    charts = [chart for section in sections for chart in section.charts]
    if not charts:
        raise ReportError(
            f"{', '.join(section.title for section in sections) or 'no result'}, without a chart",
            "a plan, measurement, scan, coordinate check, sweep, fit or tuning",
            "show it with etastar report",
        )
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    height = max(_HEIGHT, *(1.4 + _ROW * len(c.y.ticks) for c in charts))
    drawn = Figure(figsize=(_WIDTH * len(charts), height), layout="constrained")
    FigureCanvasAgg(drawn)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "etastar", "font.size": 9}):
        places = drawn.subplots(1, len(charts), squeeze=False)[0]
        for place, chart in zip(places, charts, strict=True):
            _draw(place, chart)
        try:
            stamp = {"CreationDate": None} if ending == ".pdf" else {"Date": None}
            drawn.savefig(path, dpi=200, metadata=None if ending == ".png" else stamp)
        except OSError as error:
            raise StorageError(
                f"{path}: {error}", "a file that can be written", "give another path"
            ) from error


def _draw(place: Any, chart: Chart) -> None:
    if chart.cells:
        _heat_map(place, chart)
    named: set[str] = set()
    for series in chart.series:
        is_named = series.look != "runs" and bool(series.name) and series.name not in named
        label = _plain(shorten_middle(series.name, _LEGEND)) if is_named else "_"
        if is_named:
            named.add(series.name)
        _marks(place, series, label)
    _axis(place.xaxis, chart.x, place.set_xscale)
    _axis(place.yaxis, chart.y, place.set_yscale)
    if chart.y.ticks and not chart.cells:
        place.invert_yaxis()
    place.set_title(_plain(chart.title), fontsize=10)
    if named:
        place.legend(fontsize=7, frameon=False, ncols=1 + (len(named) > _MOST_NAMED))


def _plain(text: str) -> str:
    """A dollar sign begins no formula."""
    return text.replace("$", r"\$")


def _axis(axis: Any, given: Axis, set_scale: Any) -> None:
    axis.set_label_text(_plain(given.title))
    if given.log:
        set_scale("log")
    if given.ticks:
        axis.set_ticks(range(len(given.ticks)), [_plain(tick) for tick in given.ticks], fontsize=7)
        if axis.axis_name == "x" and sum(map(len, given.ticks)) > 50:
            axis.set_tick_params(rotation=90)


def _heat_map(place: Any, chart: Chart) -> None:
    rows = np.array(chart.cells, float)  # None is NaN
    reach = max([1.0, *(abs(v) for row in chart.cells for v in row if v is not None)])
    image = place.imshow(rows, aspect="auto", cmap="coolwarm", vmin=-reach, vmax=reach)
    place.figure.colorbar(image, ax=place, label=_plain(chart.unit))


_STYLES = {"line": "-", "curve": ".-", "dashes": ":", "points": "o", "runs": ".", "minimum": "*"}


def _marks(place: Any, series: Series, label: str) -> None:
    color = color_of(series.color)
    if series.look == "band":
        low, high = zip(*(end for end in series.y_ends if end), strict=True)
        place.fill_between(series.x, low, high, color=color, alpha=0.25, lw=0, label=label)
        return
    bare = series.look == "runs"
    place.errorbar(
        np.array(series.x, float),
        np.array(series.y, float),
        xerr=_reach(series.x, series.x_ends),
        yerr=_reach(series.y, series.y_ends),
        fmt=_STYLES[series.look],
        color=color,
        markersize={"runs": 2, "minimum": 9}.get(series.look, 5),
        alpha=0.4 if bare else 1,
        capsize=2,
        lw=1.2,
        label=label,
    )


def _reach(values: Sequence[float | None], ends: Sequence[tuple[float, float] | None]) -> Any:
    """How far each interval goes down and up, as Matplotlib takes it."""
    if not any(ends):
        return None
    pairs = [end or (value, value) for value, end in zip(values, ends, strict=True)]
    own, (low, high) = np.array(values, float), np.array(pairs, float).T
    return [own - low, high - own]
