"""Charts as Plotly figures, for screens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from etastar.errors import MissingExtraError, ReportError
from etastar.formatting import shorten_middle
from etastar.report.charts import GREY, Axis, Chart, Series
from etastar.report.sections import section_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

PALETTE = ("#4269d0", "#e8590c", "#2b9a82", "#9c6b4e", "#b8860b", "#a463f2", "#5b8def", "#3ca951")
_GREY = "#8a8f98"
_DIVERGING = [[0.0, "#3b6fd4"], [0.5, "#9aa0a8"], [1.0, "#e8590c"]]
_LEGEND, _HOVER, _UPRIGHT = 42, 90, 50  # characters
_ROW, _LEAST, _MOST = 17, 380, 1100  # pixels of a chart's height


def figure(result: object) -> go.Figure:
    """A result as a Plotly figure: of several charts, one below the other.

    Args:
        result: What a function of the package returned, or the plain data of its JSON.

    Returns:
        The figure, to show, change or write.

    Raises:
        MissingExtraError: Plotly is not installed.
        ReportError: The result is unknown, or has no chart: a regret, or a network, which a report
            draws.

    Example:
        >>> from etastar.fit import fit_power_law
        >>> len(figure(fit_power_law([2, 8], [1.0, 0.125])).data)
        2
    """
    charts = section_of(result).charts
    if not charts:
        raise ReportError(
            f"a {type(result).__name__}, of which there is no chart",
            "a plan, measurement, scan, coordinate check, sweep, fit or tuning",
            "show it with etastar.write_report(path, result)",
        )
    return chart_figure(*charts)


def chart_figure(*charts: Chart) -> go.Figure:
    """Charts as one figure, one below the other; text in it is escaped.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtraError("plotly", "plotly") from error
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"annotations": [], "template": {}}
    heights = [_height(chart) for chart in charts]
    gap, top = 0.22 / len(charts) if len(charts) > 1 else 0.0, 1.0
    for number, (chart, height) in enumerate(zip(charts, heights, strict=True), start=1):
        share = height / sum(heights)
        domain = [max(0.0, top - share + gap / 2), min(1.0, top - gap / 2)]
        end = "" if number == 1 else str(number)
        names = {"xaxis": f"x{end}", "yaxis": f"y{end}"}
        traces += [{**trace, **names} for trace in _traces(chart, domain)]
        layout[f"xaxis{end}"] = _axis(chart.x, {"anchor": names["yaxis"]})
        if sum(map(len, chart.x.ticks)) > _UPRIGHT:
            # else Plotly leaves out what is too long; the title would lie on the names
            layout[f"xaxis{end}"] |= {"tickangle": 90, "title": {"text": ""}}
        layout[f"yaxis{end}"] = _axis(chart.y, {"anchor": names["xaxis"], "domain": domain})
        if chart.cells or chart.y.ticks:
            layout[f"yaxis{end}"]["autorange"] = "reversed"
        if len(charts) > 1:
            layout["annotations"].append(_heading(_title(chart), domain[1]))
        top -= share
    layout |= {
        "title": {"text": _title(charts[0]) if len(charts) == 1 else ""},
        "height": sum(heights),
        "margin": {"l": 64, "r": 16, "t": 48, "b": 56},
        "legend": {"orientation": "h", **_legend_place(charts[-1], sum(heights) - 104)},
        "hoverlabel": {"namelength": _LEGEND},
    }
    return go.Figure({"data": traces, "layout": layout})


def _legend_place(last: Chart, height: int) -> dict[str, Any]:
    """Below, where names that stand upright leave room; else above."""
    if sum(map(len, last.x.ticks)) > _UPRIGHT:
        return {"y": 1, "yanchor": "bottom"}
    return {"y": -76 / height, "yanchor": "top"}


def color_of(index: int) -> str:
    """Hexadecimal code of the palette's colour with this number; grey for `GREY`."""
    return _GREY if index == GREY else PALETTE[index % len(PALETTE)]


def _height(chart: Chart) -> int:
    rows = len(chart.y.ticks)
    if not rows:
        return _LEAST
    return min(_MOST, 150 + rows * (_ROW if chart.cells else 2 * _ROW))


def _title(chart: Chart) -> str:
    return escape(f"{chart.title} ({chart.unit})" if chart.unit else chart.title)


def _heading(text: str, y: float) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": y, "yanchor": "bottom"}
    return {"text": text, "showarrow": False, **place}


def _axis(axis: Axis, more: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"title": {"text": escape(axis.title)}, "automargin": True, **more}
    if axis.log:
        found |= {"type": "log", "tickformat": "~g", "nticks": 4}  # 1, 2, 5, not every digit
    if axis.ticks:
        step = -(-len(axis.ticks) // ((_MOST - 150) // _ROW))
        places = range(0, len(axis.ticks), step)
        found |= {"tickvals": list(places), "ticktext": [escape(axis.ticks[k]) for k in places]}
    return found


def _traces(chart: Chart, domain: Sequence[float]) -> Iterator[dict[str, Any]]:
    if chart.cells:
        yield _heat_map(chart, domain)
    shown: set[str] = set()
    for series in chart.series:
        trace = _band(series) if series.look == "band" else _scatter(series)
        trace["showlegend"] = bool(series.name) and series.name not in shown
        if series.look != "runs":  # their mean has the name
            shown.add(series.name)
        else:
            trace["showlegend"] = False
        yield trace


def _heat_map(chart: Chart, domain: Sequence[float]) -> dict[str, Any]:
    reach = max((abs(v) for row in chart.cells for v in row if v is not None), default=1.0)
    x, y = list(range(len(chart.x.ticks))), list(range(len(chart.y.ticks)))
    text = [[escape(f"{row}, {column}") for column in chart.x.ticks] for row in chart.y.ticks]
    return {
        "type": "heatmap",
        "x": x,
        "y": y,
        "z": [list(row) for row in chart.cells],
        "zmin": -max(reach, 1.0),
        "zmax": max(reach, 1.0),
        "colorscale": _DIVERGING,
        "text": text,
        "hovertemplate": "%{text}<br>%{z:.2f}<extra></extra>",
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"thickness": 10, "y": sum(domain) / 2, "len": domain[1] - domain[0]},
    }


_MODES = {"curve": "lines+markers", "line": "lines", "dashes": "lines"}


def _scatter(series: Series) -> dict[str, Any]:
    color = color_of(series.color)
    is_run, is_minimum = series.look == "runs", series.look == "minimum"
    name = escape(shorten_middle(series.name, _LEGEND))
    trace: dict[str, Any] = {
        "type": "scatter",
        "x": list(series.x),
        "y": list(series.y),
        "name": name,
        "legendgroup": name,
        "mode": _MODES.get(series.look, "markers"),
        "line": {"color": color, "width": 2, "dash": "dot" if series.look == "dashes" else "solid"},
        "marker": {
            "color": color,
            "size": 3 if is_run else 13 if is_minimum else 7,
            "opacity": 0.45 if is_run else 1,
            "symbol": "star" if is_minimum else "circle",
        },
        "text": [escape(shorten_middle(label, _HOVER)) for label in series.labels],
    }
    if series.labels:
        trace["hovertemplate"] = "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>"
    for axis, ends in (("x", series.x_ends), ("y", series.y_ends)):
        if any(ends):
            trace[f"error_{axis}"] = _error_bars(getattr(series, axis), ends, color)
    return trace


def _error_bars(values: Sequence[Any], ends: Sequence[Any], color: str) -> dict[str, Any]:
    both = [
        (None, None) if value is None else (high - value, value - low)
        for value, (low, high) in (
            (value, end or (value, value)) for value, end in zip(values, ends, strict=True)
        )
    ]
    up, down = (list(side) for side in zip(*both, strict=True))
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    return {**bars, "color": color, "thickness": 1.5, "width": 4}


def _band(series: Series) -> dict[str, Any]:
    edges = [end for end in series.y_ends if end is not None]
    red, green, blue = bytes.fromhex(color_of(series.color)[1:])
    return {
        "type": "scatter",
        "x": [*series.x, *reversed(series.x)],
        "y": [low for low, _ in edges] + [high for _, high in reversed(edges)],
        "name": escape(shorten_middle(series.name, _LEGEND)),
        "fill": "toself",
        "fillcolor": f"rgba({red}, {green}, {blue}, 0.22)",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "mode": "lines",
    }
