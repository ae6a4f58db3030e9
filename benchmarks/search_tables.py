"""The tables of the search benchmark, from its stored runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import inf, log
from statistics import fmean, median
from typing import Any

import numpy as np
import optuna
from search import ALL_CASES, FACTOR, Case, restored, run_bracket, size_of

from etastar.fit import Optimum, find_optimum
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.sweep.loss_table import size_optimum
from etastar.sweep.recipe import Point, Size
from etastar.sweep.trial import TrialRecord

TOLERANCE, NUM_DRAWS, NUM_OPTUNA_RATES = 0.15, 20, 40
Runs = dict[str, list[TrialRecord]]


def table_of(records: Sequence[TrialRecord]) -> tuple[np.ndarray, np.ndarray]:
    """Rates (num_rates,), rising, and losses (num_rates, num_seeds)."""
    losses: dict[float, dict[int, float]] = {}
    for record in records:
        losses.setdefault(record.point.lr, {})[record.point.seed] = record.loss
    return np.array(sorted(losses)), np.array(
        [[losses[lr][seed] for seed in sorted(losses[lr])] for lr in sorted(losses)]
    )


def grid_optimum(lrs: np.ndarray, losses: np.ndarray) -> Optimum:
    """The dense grid's optimum and interval."""
    return find_optimum(lrs, losses, num_points=num_points(lrs))


def num_points(lrs: np.ndarray) -> int:
    """Rates of the dense grid within a factor of one, itself included."""
    return 2 * int(log(FACTOR) / log(lrs.max() / lrs.min()) * (len(lrs) - 1)) + 1


def by_seeds_alone(lrs: np.ndarray, losses: np.ndarray, points: int) -> Optimum:
    """As `find_optimum` was until after the fifth comparison: seeds drawn again, nothing added."""
    draws = resampled_seeds(losses.shape[1], num_resamples=1000, seed=0).tolist()
    counted = Counter(tuple(sorted(draw)) for draw in draws)
    minima = {
        draw: find_optimum(lrs, losses[:, list(draw)].mean(1), num_points=points).lr
        for draw in counted
    }
    resampled = np.array([minima[draw] for draw in counted.elements()])
    found = find_optimum(lrs, losses, num_points=points, num_resamples=1)
    return replace(
        found, interval=percentile_interval(resampled, 0.95), resampled_lrs=tuple(resampled)
    )


def estimate(lrs: np.ndarray, losses: np.ndarray) -> float | None:
    """The same estimator on rates that lie anyhow; None while every rate diverged."""
    mean = losses.mean(1)
    if not np.isfinite(mean).any():
        return None
    near = np.abs(np.log(lrs / lrs[np.argmin(mean)])) <= log(FACTOR) * 1.001
    return find_optimum(
        lrs[near], losses[near], num_points=2 * int(near.sum()) + 1, num_resamples=1
    ).lr


def agrees(lr: float | None, grid: Optimum) -> bool:
    """Within 15% of the grid's optimum, or inside its interval."""
    assert grid.interval is not None
    if lr is None:
        return False
    inside = grid.interval[0] <= lr <= grid.interval[1]
    return inside or 1 / (1 + TOLERANCE) <= lr / grid.lr <= 1 + TOLERANCE


def optuna_rates(
    lrs: np.ndarray, losses: np.ndarray, grid: Optimum, seed: int, num_paid: float
) -> tuple[int | None, bool]:
    """Of the default sampler: rates until it agrees for good; whether it does after `num_paid`.

    The second is judged after the last rate that bracket's steps pay for; a rate that is asked for
    twice costs nothing.
    """
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    asked: list[int] = []
    good: list[bool] = []
    worst, after_paid = 0.0, False
    for _ in range(NUM_OPTUNA_RATES):
        trial = study.ask()
        lr = trial.suggest_float("lr", float(lrs[0]), float(lrs[-1]), log=True)
        asked.append(int(np.argmin(np.abs(np.log(lrs / lr)))))
        loss = float(losses[asked[-1]].mean())
        worst = max(worst, loss) if loss < inf else worst
        study.tell(trial, loss if loss < inf else worst)
        rows = sorted(set(asked))
        good.append(agrees(estimate(lrs[rows], losses[rows]), grid))
        if len(rows) <= num_paid:
            after_paid = good[-1]
    needed = max((n + 1 for n, fine in enumerate(good, start=1) if not fine), default=1)
    return len(set(asked[:needed])) if needed <= len(good) else None, after_paid


def from_grid(
    network: str, grids: dict[Size, list[TrialRecord]], start: float, seeds: tuple[int, ...]
) -> Runs:
    """Bracket on the grid's runs; beyond the grid's range a rate counts as diverged."""
    by_size = {
        size: (np.array(sorted({run.point.lr for run in runs})), {run.point: run for run in runs})
        for size, runs in grids.items()
    }

    def run(size: Size, point: Point) -> TrialRecord:
        lrs, runs = by_size[size]
        nearest = lrs[np.argmin(np.abs(np.log(lrs / point.lr)))]
        found = runs[Point(float(nearest), point.seed)]
        if not lrs[0] / 1.05 < point.lr < lrs[-1] * 1.05:
            return replace(found, point=point, loss=inf, diverged=True)
        return replace(found, point=point)

    return {str(depth): runs for depth, runs in run_bracket(network, start, run, seeds).items()}


def row_of(runs: Runs, others: Sequence[list[TrialRecord]], *, smoothed: bool) -> dict[str, Any]:
    """Everything that is reported of one size."""
    lrs, losses = table_of(runs["grid"])
    both = [by_seeds_alone(lrs, losses, num_points(lrs)), grid_optimum(lrs, losses)]
    other, grid = both if smoothed else both[::-1]
    optimum = size_optimum(runs["bracket"])
    lr = None if optimum is None else optimum.lr
    per_rate = steps_of(runs["grid"]) / len(lrs)
    paid = steps_of(runs["bracket"]) / per_rate
    draws = [optuna_rates(lrs, losses, grid, seed, paid) for seed in range(NUM_DRAWS)]
    needed = [rates for rates, _ in draws]
    found = [size_optimum(records) for records in others]
    mean = losses.mean(1)
    halves = [estimate(lrs[first::2], losses[first::2]) or inf for first in (0, 1)]
    return {
        "grid": grid,
        "halves": max(halves) / min(halves),
        "grid_steps": steps_of(runs["grid"]),
        "lr": lr,
        "agrees": agrees(lr, grid),
        "agrees_by_other": agrees(lr, other),
        "regret": None
        if lr is None
        else float(mean[np.argmin(np.abs(np.log(lrs / lr)))] - mean.min()),
        "runs": len(runs["bracket"]),
        "steps": steps_of(runs["bracket"]),
        "optuna_steps": per_rate * median(inf if n is None else n for n in needed),
        "optuna_paid": sum(fine for _, fine in draws),
        "optuna_reached": sum(n is not None for n in needed),
        "others_agree": sum(agrees(o.lr if o else None, grid) for o in found),
        "others_runs": fmean(map(len, others)),
    }


def steps_of(records: Sequence[TrialRecord]) -> int:
    """Optimizer steps taken."""
    return sum(record.steps for record in records)


HEAD = (
    "| depth | grid's optimum | interval | its halves apart | bracket's | ratio | agrees"
    " | by the other interval | loss above the grid's lowest | bracket's runs"
    " | bracket's steps / grid's"
    " | Optuna's steps / grid's, median of 20 | Optuna agrees, of 20"
    " | after bracket's steps, of 20"
    " | bracket from 20 starts: agrees | mean runs |"
)


def markdown_row(depth: str, row: dict[str, Any]) -> str:
    """One size."""
    grid, steps = row["grid"], row["grid_steps"]
    share = row["optuna_steps"] / steps
    cells = [
        depth,
        f"{grid.lr:.4g}" + (" (edge)" if grid.at_edge else ""),
        "{:.4g} to {:.4g}".format(*grid.interval),
        f"{row['halves']:.2f}",
        "none" if row["lr"] is None else f"{row['lr']:.4g}",
        "" if row["lr"] is None else f"{row['lr'] / grid.lr:.2f}",
        "yes" if row["agrees"] else "no",
        "yes" if row["agrees_by_other"] else "no",
        "" if row["regret"] is None else f"{row['regret']:.4f}",
        row["runs"],
        f"1/{steps / row['steps']:.1f}",
        f"over {NUM_OPTUNA_RATES / 80}" if share == inf else f"1/{1 / share:.1f}",
        row["optuna_reached"],
        row["optuna_paid"],
        row["others_agree"],
        f"{row['others_runs']:.1f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def rows_of(
    network: str,
    case: Case,
    stored: dict[str, Any],
    seeds: tuple[int, ...],
    start_steps: int,
    *,
    smoothed: bool,
) -> dict[str, dict[str, Any]]:
    """The rows of one network, by depth; the first depth pays for a measured start."""
    runs = {
        depth: {
            method: [restored(size_of(int(depth)), run) for run in found]
            for method, found in methods.items()
        }
        for depth, methods in stored.items()
    }
    grids = {size_of(int(depth)): methods["grid"] for depth, methods in runs.items()}
    starts = np.logspace(case.low, case.high, NUM_DRAWS + 2)[1:-1]
    others = [from_grid(network, grids, float(start), seeds) for start in starts]
    rows = {
        d: row_of(methods, [other[d] for other in others], smoothed=smoothed)
        for d, methods in runs.items()
    }
    next(iter(rows.values()))["steps"] += start_steps
    return rows


def markdown(
    comparisons: Sequence[dict[str, Any]],
    preface: str,
    addition: str,
    *,
    steps_per_seed: int,
    smoothed: bool,
) -> str:
    """The results as Markdown, a section for each comparison and network.

    Agreement is judged, and Optuna's steps are counted, by the grid's interval as it was when the
    comparison was fixed: that of `find_optimum` if `smoothed`, else that of the seeds alone.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pairs = ["{} and {}".format(*stored["seeds"]) for stored in comparisons]
    lines = ["# Steps to the optimal learning rate", ""]
    lines += [f"PyTorch {comparisons[0]['torch']}, seeds {'; '.join(pairs)}.", ""]
    lines += [preface.split("\n\n", 2)[2].rsplit("\n\n", 1)[0], addition]
    found = {}
    for stored, pair in zip(comparisons, pairs, strict=True):
        seeds = tuple(stored["seeds"])
        for network, runs in stored["runs"].items():
            steps = steps_per_seed * len(seeds)
            found[pair, network] = rows_of(
                network, ALL_CASES[network], runs, seeds, steps, smoothed=smoothed
            )
    if len(comparisons) > 1:
        lines += ["## All comparisons", "", *_overview(found, pairs), ""]
    for (pair, network), rows in found.items():
        title = ALL_CASES[network].title
        lines += [f"## {title}" + (f", seeds {pair}" if len(comparisons) > 1 else ""), ""]
        lines += [HEAD, "| --- " * 16 + "|"]
        lines += [markdown_row(depth, row) for depth, row in rows.items()]
        grid, own, theirs = _shares(rows)
        lines += [
            "",
            f"Of {len(rows)} depths, bracket agrees at {_agreed(rows)}, with 1/{grid / own:.1f} of "
            "the grid's steps, and takes fewer steps than Optuna's median at "
            f"{sum(row['steps'] < row['optuna_steps'] for row in rows.values())}; over all depths "
            f"Optuna's medians come to 1/{grid / theirs:.1f}. By the other interval bracket agrees "
            f"at {sum(row['agrees_by_other'] for row in rows.values())}.",
            "",
        ]
    return "\n".join(lines)


def _shares(rows: dict[str, dict[str, Any]]) -> tuple[float, float, float]:
    """Steps over all depths: the grid's, bracket's, Optuna's medians."""
    grid, own, theirs = (
        sum(row[key] for row in rows.values()) for key in ("grid_steps", "steps", "optuna_steps")
    )
    return grid, own, theirs


def _agreed(rows: dict[str, dict[str, Any]]) -> int:
    return sum(row["agrees"] for row in rows.values())


def _overview(
    found: dict[tuple[str, str], dict[str, dict[str, Any]]], pairs: Sequence[str]
) -> list[str]:
    """One row for each network: of each comparison agreement, bracket's share, Optuna's share."""
    lines = ["| network | " + " | ".join(f"seeds {pair}" for pair in pairs) + " | sizes |"]
    lines += ["| --- " * (len(pairs) + 2) + "|"]
    for network in dict.fromkeys(network for _, network in found):
        cells = []
        for pair in pairs:
            rows = found[pair, network]
            grid, own, theirs = _shares(rows)
            cells.append(
                f"{_agreed(rows)} of {len(rows)}, 1/{grid / own:.1f} (Optuna 1/{grid / theirs:.1f})"
            )
        agreed = sum(_agreed(found[pair, network]) for pair in pairs)
        total = sum(len(found[pair, network]) for pair in pairs)
        title = ALL_CASES[network].title
        lines.append("| " + " | ".join([title, *cells, f"{agreed} of {total}"]) + " |")
    return lines
