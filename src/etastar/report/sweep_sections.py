"""Sections of what was trained: sweeps, fits to a store, tuning, rules side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, log
from typing import Any

import numpy as np

from etastar.fit import PowerLawFit
from etastar.formatting import interval, number, percent, seeds_interval
from etastar.report.charts import Axis, Chart, Panel, Section, Series, axis_labels
from etastar.report.plan_sections import plan_section
from etastar.report.rate_line import (
    PowerLine,
    RatePoint,
    rate_chart,
    rate_points,
    tuned_line,
    varied_name,
)
from etastar.sweep.recipe import Point, as_size, format_size
from etastar.sweep.result import STOPPED, loss_table
from etastar.sweep.trial import TrialRecord

_LOG_FROM = 10.0  # highest over lowest loss, for a logarithmic axis

_COUNTS = ("runs", "diverged", "stopped")

_Data = Mapping[str, Any]


def sweep_section(data: _Data) -> Section:
    """Loss against rate of every size, with minima, and the optimum over size."""
    panels = [_optima_panel(data["optima"], _loss_chart(data))]
    panels += _drift(data["optima"])
    return Section("Sweep", _facts(data), tuple(panels), _legend(data))


def tune_section(data: _Data) -> Section:
    """The sweep of a tuning, what it came to, and its plan."""
    optima, target = data["optima"], data["target"]
    plan = plan_section(data["plan"])
    chart = _loss_chart(data) if data.get("trials") else None
    panels = [_optima_panel(optima, chart)]
    panels += _drift(optima, target, data["plan"])
    facts = {
        **_facts(data),
        "target": format_size(as_size(target)),
        "cost": f"{percent(data['cost'])} of one target run",
        "stopped": data["stop"],
        **plan.facts,
    }
    return Section("Tuning", facts, (*panels, *plan.panels), (*_legend(data), *plan.notes))


def fit_section(data: _Data) -> Section:
    """The power law through a store's optima over effective depth."""
    points = [
        RatePoint(one["depth"], one["lr"], one["interval"] and tuple(one["interval"]))
        for one in data["optima"]
        if data["at"].items() <= one["size"].items()
    ]
    plan, target = data.get("plan"), None
    if plan is not None:
        target = RatePoint(plan["target_depth"], plan["lr"], plan["lr_interval"])
    line = tuned_line(points)
    rows = tuple(
        (format_size(as_size(one["size"])), number(one["depth"]), *_rate_cells(one))
        for one in data["optima"]
    )
    headings = ("size", "effective depth", "learning rate", "95% interval")
    at = f", at {format_size(as_size(data['at']))}" if data["at"] else ""
    law = "none, of one depth" if line is None else f"{line}{at}"
    facts = {**data["settings"], "exponent": law}
    facts["r squared"] = "none" if data["r_squared"] is None else number(data["r_squared"])
    without = [f"no optimum at {format_size(as_size(size))}" for size in data["without_optimum"]]
    prior = plan["prior"] if plan is not None else data.get("prior")
    chart = rate_chart("effective depth", points, line, target=target, prior=prior)
    more = () if plan is None else plan_section(plan).panels
    panel = Panel(headings, rows, chart)
    return Section("Fit over depth", facts, (panel, *more), tuple(without))


def law_section(data: _Data) -> Section:
    """A power law by itself."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    fit = PowerLawFit(**fields)
    points = [RatePoint(x, lr) for x, lr in zip(fit.sizes, fit.lrs, strict=True)]
    rows = tuple(
        (number(x), number(lr), number(fit.predict(x)), percent(weight))
        for x, lr, weight in zip(fit.sizes, fit.lrs, fit.weights, strict=True)
    )
    line = PowerLine.of_fit(fit)
    facts = {"exponent": str(line), "r squared": number(fit.r_squared)}
    headings = ("size", "learning rate", "on the line", "weight")
    return Section("Power law", facts, (Panel(headings, rows, rate_chart("size", points, line)),))


def rules_section(data: _Data) -> Section:
    """Regret of every rule that carried a rate, as `etastar demo` compares them."""
    rules = data["rules"]
    names = tuple(str(row["rule"]) for row in rules)
    regrets = [row["relative_regret"] for row in rules]
    rows = tuple(
        (
            name,
            number(row["lr"]),
            interval(*row["interval"]) if row.get("interval") else "",
            "diverged" if row["loss"] is None else number(row["loss"]),
            percent(inf if regret is None else regret),
        )
        for name, row, regret in zip(names, rules, regrets, strict=True)
    )
    headings = ("rule", "learning rate", "95% interval", "final loss", "relative regret")
    marks = Series("", tuple(regrets), tuple(map(float, range(len(rules)))), labels=names)
    axes = Axis("relative regret"), Axis("", ticks=axis_labels(names))
    chart = Chart("regret by rule", *axes, (marks,))
    return Section("Rules side by side", {}, (Panel(headings, rows, chart),))


def _facts(data: _Data) -> dict[str, str]:
    """What was run: settings, search, seeds, devices and versions."""
    trials = data.get("trials", ())
    versions = {f"{k} {v}" for trial in trials for k, v in trial["versions"].items()}
    search = ", ".join(f"{name}={value}" for name, value in data.get("search", {}).items())
    found = {
        **{str(k): str(v) for k, v in data.get("settings", {}).items()},
        "search": search,
        "runs": f"{len(trials):,}" if trials else "",
        "steps": f"{data['steps']:,}",
        "seeds": _listed({str(trial["seed"]) for trial in trials}),
        "device": _listed({trial["device"] for trial in trials}),
        "versions": _listed(versions),
    }
    return {name: text for name, text in found.items() if text}


def _legend(data: _Data) -> tuple[str, ...]:
    return (STOPPED,) if any(one.get("num_stopped") for one in data["optima"]) else ()


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(sorted(texts, key=lambda text: (len(text), text)))


def _optima_panel(optima: list[_Data], chart: Chart | None) -> Panel:
    rows = tuple(
        (
            format_size(as_size(one["size"])),
            *_rate_cells(one),
            "-" if one["loss"] is None else number(one["loss"]),
            f"{one['num_trials']:,}",
            str(one["num_diverged"]),
            str(one.get("num_stopped", 0)),
            ", ".join(one["flags"]),
        )
        for one in optima
    )
    headings = ("size", "learning rate", "95% interval", "loss", *_COUNTS, "flags")
    return Panel(headings, rows, chart)


def _rate_cells(one: _Data) -> tuple[str, str]:
    if one["lr"] is None:
        return "-", "-"
    return number(one["lr"]), seeds_interval(one["interval"])


def _drift(
    optima: list[_Data], target: _Data | None = None, plan: _Data | None = None
) -> list[Panel]:
    """The optimum over the setting that varies, with the target of a plan and what was expected."""
    over = varied_name([one["size"] for one in optima] + ([target] if target else []))
    points = [] if over is None else rate_points(optima, over)
    if over is None or not points:
        return []
    goal, prior = None, None
    if target is not None and plan is not None:
        ends = plan["lr_interval"] and tuple(plan["lr_interval"])
        goal = RatePoint(target[over], plan["lr"], ends)
        if {**optima[0]["size"], over: None} == {**target, over: None}:
            prior = _prior_over(plan, points[-1].x, goal.x)
    line = tuned_line(points)
    headings = (over, "learning rate", "95% interval", "on the line")
    rows = tuple(
        (
            number(point.x),
            number(point.lr),
            seeds_interval(point.ends),
            "-" if line is None else number(line.at(point.x)),
        )
        for point in (*points, *([goal] if goal else []))
    )
    chart = rate_chart(over, points, line, target=goal, prior=prior)
    return [Panel(headings, rows, chart)]


def _prior_over(plan: _Data, base: float, target: float) -> list[float] | None:
    """The plan's prior, which is in effective depth, as that of a size from base to target."""
    ratio = log(plan["target_depth"] / plan["base_depth"])
    if not plan.get("prior") or not ratio or not 0 < base < target:
        return None
    return [ratio / log(target / base) * one for one in plan["prior"]]


def _loss_chart(data: _Data) -> Chart:
    """Mean loss over seeds at each rate, every run, and the minima with their intervals."""
    series: list[Series] = []
    for color, one in enumerate(data["optima"]):
        name = format_size(as_size(one["size"]))
        trials = [trial for trial in data["trials"] if trial["size"] == one["size"]]
        series += _size_series(name, trials, color)
        if one["lr"] is not None and one["loss"] is not None:
            ends = one["interval"] and tuple(one["interval"])
            label = f"{name}: optimum {number(one['lr'])}, loss {number(one['loss'])}"
            series.append(
                Series(name, (one["lr"],), (one["loss"],), "minimum", color, (ends,), (), (label,))
            )
    losses = [y for one in series for y in one.y if y is not None]
    log = bool(losses) and min(losses) > 0 and max(losses) / min(losses) > _LOG_FROM
    axes = Axis("learning rate", log=True), Axis("loss", log=log)
    return Chart("loss against learning rate", *axes, tuple(series))


def _size_series(name: str, trials: list[_Data], color: int) -> list[Series]:
    if not trials:
        return []
    lrs, losses = loss_table([_record(trial) for trial in trials])
    means = [_short(mean) if np.isfinite(mean) else None for mean in losses.mean(1)]
    runs = [trial for trial in trials if trial["finite"] and not trial["diverged"]]
    labels = tuple(f"{name}: seed {trial['seed']}" for trial in runs)
    points = tuple(_short(t["lr"]) for t in runs), tuple(_short(t["loss"]) for t in runs)
    return [
        Series(name, *points, "runs", color, labels=labels),
        Series(name, tuple(map(_short, lrs)), tuple(means), "curve", color),
    ]


def _record(trial: _Data) -> TrialRecord:
    loss = inf if trial["loss"] is None else trial["loss"]
    point = Point(trial["lr"], trial["seed"])
    return TrialRecord(as_size(trial["size"]), point, loss, (), trial["diverged"], 0, 0.0)


def _short(x: float) -> float:
    """Six digits: what a screen shows, and a quarter of the bytes."""
    return float(f"{x:.6g}")
