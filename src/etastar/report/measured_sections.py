"""Sections of what was measured at initialization or over a few steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, log2
from statistics import fmean
from typing import Any

from etastar.formatting import number, seeds_interval, shorten_middle
from etastar.report.charts import GREY, Axis, Chart, Panel, Section, Series, axis_labels
from etastar.report.rate_line import PowerLine, RatePoint, rate_chart
from etastar.sweep.recipe import as_size, format_size

_SEEDS = 8  # that are listed one by one

_Data = Mapping[str, Any]
Cells = list[tuple["float | None", ...]]


def update_section(data: _Data) -> Section:
    """The criterion layer by layer."""
    layers = data["layers"]
    names, places = [_place(layer) for layer in layers], tuple(map(float, range(len(layers))))
    rows = tuple(
        (
            name,
            _cell(one["mean_square_update"]),
            _ends(one["interval"]),
            _cell(one["second_moment"]),
        )
        for name, one in zip(names, layers, strict=True)
    )
    typical = Series(
        "M of the network", places, (data["typical_mean_square"],) * len(places), "dashes", GREY
    )
    marks = Series(
        "M of the layer",
        places,
        tuple(_positive(layer["mean_square_update"]) for layer in layers),
        y_ends=tuple(_pair(layer["interval"]) for layer in layers),
        labels=tuple(shorten_middle(name, 80) for name in names),
    )
    x = Axis("pre-activation", ticks=axis_labels(names))
    y = Axis("mean square per lr squared", log=True)
    chart = Chart("update of each pre-activation", x, y, (typical, marks))
    notes = tuple(filter(None, (data["shortfall"], data["doubt"])))
    panel = Panel(("pre-activation", "M", "95% interval", "mean square"), rows, chart)
    facts = {
        "eta*": f"{_cell(data['eta_star'])} ({_ends(data['eta_star_interval'])})",
        "pre-activations": data["pre_activations"],
        "seeds": _seeds(data["seeds"]),
        "cost": f"{data['num_passes']} forward passes",
    }
    return Section("Measurement", facts, (panel,), notes)


def scan_section(data: _Data) -> Section:
    """eta* over sizes with its power law, and the layers' updates as a heat map."""
    points = data["points"]
    sizes = [format_size(as_size(point["size"])) for point in points]
    rows = tuple(
        (
            size,
            "none" if point["effective_depth"] is None else number(point["effective_depth"]),
            _cell(point["eta_star"]),
            _ends(point["eta_star_interval"]),
        )
        for size, point in zip(sizes, points, strict=True)
    )
    headings = ("size", "effective depth", "eta*", "95% interval")
    charts = [_exponent_chart(points, name, one) for name, one in data["exponents"].items()]
    panels = [Panel(headings, rows, chart) for chart in charts or [None]]
    longest = max(points, key=lambda point: len(point["layers"]))
    names = [_place(layer) for layer in longest["layers"]]
    shares = [_shares(point) for point in points]
    cells: Cells = [tuple(share.get(name) for share in shares) for name in names]
    unit = "log2 of a layer's M over the network's"
    panels.append(_heat("update of each layer", names, sizes, cells, unit))
    facts = {
        **{f"over {name}": _exponent(one) for name, one in data["exponents"].items()},
        "seeds": _seeds(points[0]["seeds"]),
        "pre-activations": points[0]["pre_activations"],
        "cost": f"{data['num_passes']} forward passes",
    }
    return Section("Scan", facts, tuple(panels), tuple(filter(None, (data["shortfall"],))))


def _exponent(one: _Data) -> str:
    return f"({one['over']})^{number(one['exponent'])} ({_ends(one['interval'])})"


def _exponent_chart(points: Sequence[_Data], name: str, one: _Data) -> Chart | None:
    at = dict(zip(one["values"], one["abscissas"], strict=True))
    rest = {k: v for k, v in points[0]["size"].items() if k != name}
    found = [
        RatePoint(at[p["size"][name]], p["eta_star"], _pair(p["eta_star_interval"]))
        for p in points
        if {k: v for k, v in p["size"].items() if k != name} == rest
        and p["size"][name] in at
        and p["eta_star"]
    ]
    if not found or not all(point.x > 0 for point in found):
        return None
    centre, height = fmean(log(p.x) for p in found), fmean(log(p.lr) for p in found)
    line = PowerLine(centre, height, one["exponent"], _pair(one["interval"]))
    return rate_chart(one["over"], found, line)


def _shares(point: _Data) -> dict[str, float]:
    whole = _positive(point["typical_mean_square"])
    return {
        _place(layer): log2(layer["mean_square_update"] / whole)
        for layer in point["layers"]
        if whole and _positive(layer["mean_square_update"])
    }


def coordinate_section(data: _Data) -> Section:
    """The change of every layer over sizes as a heat map, and the verdicts."""
    panels: list[Panel] = []
    for axis in data["axes"]:
        names = [_layer_title(layer) for layer in axis["layers"]]
        rows = tuple(
            (
                name,
                _trend(layer["init"]),
                _trend(layer["change"]),
                layer["verdict"] + (" (expected)" if layer["exception"] else ""),
                layer["advice"] or layer["exception"],
            )
            for name, layer in zip(names, axis["layers"], strict=True)
        )
        headings = ("layer", "size at initialization", "change", "verdict", "what would mend it")
        sizes = [f"{axis['axis']}={size}" for size in axis["sizes"]]
        unit = "log2, against the smallest size"
        for what, title in (("change", "change"), ("init", "size at initialization")):
            cells = [_growth(layer[what]["curves"][-1]) for layer in axis["layers"]]
            panels.append(_heat(f"{title} over {axis['axis']}", names, sizes, cells, unit))
        panels[-2] = Panel(headings, rows, panels[-2].chart)
    facts = {
        "verdict": "passed" if data["passed"] else "failed: layers depend on the size",
        "steps": str(data["num_steps"]),
        "seeds": _seeds(data["seeds"]),
    }
    return Section("Coordinate check", facts, tuple(panels))


def _heat(title: str, names: list[str], columns: list[str], cells: Cells, unit: str) -> Panel:
    """A heat map with its numbers as a table."""
    axes = Axis("", ticks=axis_labels(columns)), Axis("", ticks=axis_labels(names))
    rows = tuple(
        (name, *("-" if value is None else f"{value:+.2f}" for value in row))
        for name, row in zip(names, cells, strict=True)
    )
    chart = Chart(title, *axes, cells=tuple(cells), unit=unit)
    return Panel(("layer", *columns), rows, chart)


def _growth(curve: Sequence[float | None]) -> tuple[float | None, ...]:
    first = _positive(curve[0])
    return tuple(log2(v / first) if first and _positive(v) else None for v in curve)


def _positive(x: float | None) -> Any:
    """A number that a logarithm takes, or None."""
    return x if x is not None and 0 < x < float("inf") else None


def _place(layer: _Data) -> str:
    is_sum = layer["name"] == "addition"
    return f"{layer['module']} addition".strip() if is_sum else str(layer["name"])


def _layer_title(layer: _Data) -> str:
    module = layer["module"] or "(root)"
    return f"{module} ({layer['name']})" if layer["role"] is None else module


def _trend(trend: _Data) -> str:
    if trend["exponent"] is None:
        return "not finite"
    ends = _pair(trend["interval"])
    within = "" if ends is None else f" [{ends[0]:+.2f}, {ends[1]:+.2f}]"
    return f"{trend['exponent']:+.2f}{within}"


def _pair(ends: Sequence[float | None] | None) -> Any:
    return None if ends is None or None in ends else tuple(ends)


def _cell(x: float | None) -> str:
    return "none" if x is None else number(x)


def _ends(ends: Sequence[float | None] | None) -> str:
    return seeds_interval(_pair(ends))


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) <= _SEEDS:
        return ", ".join(map(str, seeds))
    return f"{len(seeds)}, from {min(seeds)} to {max(seeds)}"
