"""Sections of what is planned, and of the network that it is planned for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etastar.depth import integer_text
from etastar.formatting import interval, name_pattern, number, shorten_middle
from etastar.report.charts import GREY, Axis, Chart, Panel, Section, Series, axis_labels

_Data = Mapping[str, Any]


def plan_section(data: _Data) -> Section:
    """The rate of every group, beside the one that was tuned."""
    facts = {
        "laws": data["law"],
        "optimizer": data["optimizer"],
        "effective depth": f"{data['base_depth']} to {data['target_depth']}",
        "learning rate": number(data["lr"]),
        "95% interval": interval(*data["lr_interval"]) if data["lr_interval"] else "none",
        "initialization": f"residual branches {data['initialization']['residual']}",
    }
    notes = tuple(filter(None, (data["why"], *data["notes"])))
    return Section("Plan", facts, (_groups(data),), notes)


def _groups(data: _Data) -> Panel:
    headings = ("group", "learning rate", "factor", "weight decay", "init x", "parameters")
    rows = tuple(
        (
            group["name"],
            number(group["lr"]),
            " x ".join(f"{number(f)} ({law})" for law, f in group["factors"] if f != 1) or "1",
            number(group["weight_decay"]),
            _range(group["init"]),
            name_pattern(group["parameters"]),
        )
        for group in data["groups"]
    )
    return Panel(headings, rows, _group_chart(data))


def _range(values: Any) -> str:
    low, high = min(values), max(values)
    return number(low) if low == high else interval(low, high)


def _group_chart(data: _Data) -> Chart:
    groups = data["groups"]
    rows = tuple(map(float, range(len(groups))))
    base = tuple(group["lr"] / group["lr_multiplier"] for group in groups)
    rates = tuple(group["lr"] for group in groups)
    ends = data["lr_interval"] and tuple(data["lr_interval"])
    labels = tuple(
        f"{group['name']}: {shorten_middle(name_pattern(group['parameters']), 80)}"
        for group in groups
    )
    series = (
        Series("tuned at the base", base, rows, "points", GREY),
        Series(
            "planned for the target",
            rates,
            rows,
            "points",
            0,
            x_ends=tuple(ends if rate == data["lr"] else None for rate in rates),
            labels=labels,
        ),
    )
    names = axis_labels(group["name"] for group in groups)
    axes = Axis("learning rate", log=True), Axis("", ticks=names)
    return Chart("learning rate by group", *axes, series)


def depth_section(data: _Data) -> Section:
    """Effective depth and its path."""
    rows = tuple(
        # "aten.addmm.default" as "addmm"
        (str(place), step["module"] or "(root)", step["counted_as"], (step["op"].split(".") * 2)[1])
        for place, step in enumerate(data["path"], start=1)
    )
    matrix = tuple(
        (source, output, "not connected" if length is None else str(length))
        for source, ends in data["matrix"].items()
        for output, length in ends.items()
    )
    panels = [Panel(("step", "module", "counted as", "operation"), rows)]
    if len(matrix) > 1:
        panels.append(Panel(("from", "to", "effective depth"), matrix))
    notes = tuple(filter(None, (data["capture_note"], *data["notes"])))
    return Section("Network", _depth_facts(data), tuple(panels), notes)


def _depth_facts(data: _Data) -> dict[str, str]:
    lists = ("tied", "recurrent", "stacked", "unused_parameters")
    return {
        "effective depth": str(data["effective_depth"]),
        "weight layers": str(data["weight_layers"]),
        "residual additions": str(data["residual_additions"]),
        "longest path": f"{data['longest_path']} ({data['layer_longest_path']} layers)",
        "paths": integer_text(data["path_count"], digits=12),
        "from": name_pattern(data["sources"]),
        "to": name_pattern(data["outputs"]),
        "captured on": f"{data['capture']} tensors",
        **{what.replace("_", " "): name_pattern(data[what]) for what in lists if data[what]},
    }
