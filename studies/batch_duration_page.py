"""The page of `studies.batch_duration`, from its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite, sqrt
from typing import Any

import numpy as np

from etastar.fit import find_optimum
from etastar.formatting import interval, number
from studies.page import markdown_table

_HEAD = """\
# Batch size and duration at scale `{scale}`

What was declared before any run stands at the head of
[batch_duration.py](../../../batch_duration.py). Every run is a line of `runs.jsonl`; this page is
written from them. Loss: mean over the last tenth of the steps and over the seeds."""


def change_page(changes: Sequence[Any], runs: Any, arms_of: Callable[[Any], Iterable[str]]) -> str:
    """The page: tuned optima at both ends, and what each arm lost.

    Args:
        changes: The changes.
        runs: All runs of a scale, those of every end and arm among them.
        arms_of: Names of the arms of a change.

    Returns:
        Markdown.
    """
    cells = dict.fromkeys(cell for change in changes for cell in (change.base, change.target))
    optima = (
        (cell.family, str(cell.batch_size), str(cell.num_steps), *_optimum(runs.losses(cell)))
        for cell in cells
    )
    arms = (row for change in changes for row in _arms(change, runs, tuple(arms_of(change))))
    parts = [
        _HEAD.format(scale=runs.scale),
        "## Tuned",
        markdown_table(("family", "batch", "steps", "optimal lr", "95%", "lowest loss"), optima),
        "## Carried over",
        markdown_table(
            ("change", "tuned moved", "arm", "rate moved", "loss", "regret", "minus keep"), arms
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _optimum(losses: dict[float, tuple[float, ...]]) -> tuple[str, str, str]:
    found = find_optimum(list(losses), list(losses.values()))
    reach = "at the edge" if found.interval is None else interval(*found.interval)
    return number(found.lr), reach, f"{min(map(_mean, losses.values())):.4f}"


def _arms(change: Any, runs: Any, arms: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    base, grid = runs.optimum(change.base), runs.losses(change.target)
    found = {arm: runs.losses(change.target, f"{change.name}: {arm}") for arm in arms}
    best = min(
        map(_mean, [*grid.values(), *(x for by_rate in found.values() for x in by_rate.values())])
    )
    first = [run.initial_loss for run in runs.read() if run.cell == change.target]
    gain = sum(first) / len(first) - best
    (kept,) = found["keep"].values()
    for arm, by_rate in found.items():
        ((lr, losses),) = by_rate.items()
        mean = _mean(losses)
        yield (
            change.name,
            f"x {runs.optimum(change.target) / base:.2f}",
            arm,
            f"x {lr / base:.2f}",
            f"{mean:.4f}" if isfinite(mean) else "diverged",
            f"{(mean - best) / gain:.2%}" if isfinite(mean) else "-",
            "-" if arm == "keep" else _difference(losses, kept),
        )


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Mean and standard error over the seeds, which both share."""
    if not all(map(isfinite, (*ours, *theirs))):
        return "-"
    gap = np.subtract(ours, theirs)
    error = float(gap.std(ddof=1)) / sqrt(len(gap)) if len(gap) > 1 else float("nan")
    return f"{float(gap.mean()):+.4f} +- {error:.4f}"


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
