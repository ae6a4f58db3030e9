"""The demo's result as tables for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from etastar.report.demo_result import DemoCurve, DemoNetwork, DemoResult, DemoRule

__all__ = ["demo_table"]

_INIT = {"all": "1/K", "none": "law"}
_DIVERGED = "diverged"


def demo_table(result: DemoResult) -> RenderableType:
    """The demo for a terminal: what was tuned, what each rule came to, and how to read it.

    Args:
        result: What `run_demo` returned.

    Returns:
        Something Rich prints.
    """
    notes = [Text(line) for line in (*_notes(result), *_verdict(result))]
    return Group(_setting(result), Text(), _rules(result), *notes)


def _setting(result: DemoResult) -> Table:
    s = result.settings
    grid = Table.grid(padding=(0, 2))
    grid.add_row("data, model", f"handwritten digits; residual CNN of {s.width} channels")
    grid.add_row("base", _network(result.base))
    grid.add_row("target", _network(result.target))
    budget = f"{s.num_steps} steps of {s.batch_size}, SGD with momentum {s.momentum:g}"
    grid.add_row("budget", f"{budget}, seeds {', '.join(map(str, s.seeds))}")
    for curve in result.curves:
        grid.add_row(f"{curve.size} lr, init {_INIT[curve.residual]}", _curve(curve))
    return grid


def _network(network: DemoNetwork) -> str:
    depth = f"effective depth {network.effective_depth}"
    return f"{network.blocks} blocks, {depth}, K = {network.residual_additions}"


def _curve(curve: DemoCurve) -> str:
    found = curve.optimum
    interval = "" if found.interval is None else f" [{_lr(found.interval[0])}, "
    interval += "" if found.interval is None else f"{_lr(found.interval[1])}]"
    tried = f"{len(curve.lrs)} rates {_lr(curve.lrs[0])} to {_lr(curve.lrs[-1])}"
    return "; ".join([f"{_lr(found.lr)}{interval} of {tried}", *curve.flags])


def _rules(result: DemoResult) -> Table:
    confidence = f"{100 * result.settings.confidence:g}% interval"
    table = Table(
        title="each rule, trained at the target",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
    )
    wrapped = ("mean loss", confidence)  # in a narrow terminal
    table.add_column("rule", no_wrap=True)
    for heading in ("lr", "factor", "init", wrapped[0], "test", "regret", wrapped[1], "rel."):
        table.add_column(heading, justify="right", no_wrap=heading not in wrapped)
    for rule in result.rules:
        table.add_row(*_row(rule))
    table.add_section()
    table.add_row(*_row(result.reference))
    return table


def _row(rule: DemoRule) -> list[str]:
    regret = rule.regret
    lr = _lr(rule.lr) + "*" * bool(rule.other_lrs)
    spread = "" if rule.loss_spread is None else f" ±{rule.loss_spread:.3f}"
    loss = f"{rule.mean_loss:.3f}{spread}" if math.isfinite(rule.mean_loss) else _diverged(rule)
    accuracy = "-" if rule.accuracy is None else f"{100 * rule.accuracy:.1f}%"
    relative = "-" if regret.relative is None else _percent(regret.relative)
    numbers = [loss, accuracy, _loss(regret.regret), _interval(regret.interval), relative]
    return [rule.name, lr, f"{rule.factor:.3g}", _INIT[rule.residual], *numbers]


def _diverged(rule: DemoRule) -> str:
    return f"{_DIVERGED} {rule.num_diverged} of {len(rule.mean_losses)}"


def _lr(value: float) -> str:
    return f"{value:.3g}"


def _loss(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "inf"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%" if math.isfinite(value) else "inf"


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"[{_loss(interval[0])}, {_loss(interval[1])}]"


def _notes(result: DemoResult) -> list[str]:
    """How to read the table."""
    lines = [
        "mean loss: training loss, mean over the budget and the seeds, ± their standard deviation; "
        "test: accuracy; regret: mean loss minus that of the target's own optimum under init 1/K; "
        "rel.: over what that optimum gained from the loss at initialization.",
        "init: variance of the branches 1/K; or law: without K but for the law's own factor (then "
        "the base was tuned without K too).",
    ]
    for rule in result.rules:
        if rule.other_lrs:
            others = ", ".join(map(_lr, rule.other_lrs))
            lines.append(f"* {rule.name}: hidden weights; outside of the branches {others}.")
    if result.reference_note:
        lines.append(f"own optimum: {result.reference_note}.")
    return lines


def _verdict(result: DemoResult) -> list[str]:
    """Which rule came out lowest, and where the effective-depth law stands among them."""
    regrets = {rule.name: rule.regret.regret for rule in result.rules}
    lowest = min(regrets.values())
    if not math.isfinite(lowest):
        return ["Every rule diverged at the target."]
    best = " and ".join(name for name, regret in regrets.items() if regret == lowest)
    line = f"Lowest regret of {len(regrets)} rules: {best} ({_loss(lowest)})."
    if "effective-depth" not in regrets:
        return [line]
    own = regrets["effective-depth"]
    place = 1 + sum(regret < own for regret in regrets.values())
    ties = sum(regret == own for regret in regrets.values()) - 1
    tied = f", equal with {ties} other" if ties else ""
    return [f"{line} effective-depth: place {place} of {len(regrets)}{tied} ({_loss(own)})."]
