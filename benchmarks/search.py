"""Steps to the optimal learning rate: bracket against a dense grid and Optuna's default sampler.

Usage: python benchmarks/search.py [--pilot]

Three networks at four depths each. The grid has 80 rates over three decades and two seeds; bracket
and Optuna train the same runs with the same seeds. All that follows was fixed before the first run;
the grids' ranges come from a pilot with one other seed and eight rates, and bracket's start is the
customary rate of each optimizer. Bracket's first depth starts there, the others where its own
optima predict.

One estimator: a parabola in log lr through the rates within one factor (1.6) of the lowest mean
loss. On the grid these are 11 rates, for bracket it is what a sweep reports. An estimate agrees
with the grid's when it is within 15% of it (a ratio of 1 / 1.15 to 1.15) or inside its bootstrap
interval over the seeds.
Optuna's trial is one rate with both seeds. Its steps are those after which its estimate agrees and
goes on agreeing, up to 40 rates, half of the grid's runs (not more, to save time); if it does not,
its steps are those of all 40 rates, a lower bound. That is counted in hindsight: Optuna does not
know when it agrees, while bracket stops by itself. Optuna is given the grid's range, and its first
rate lies at 55% of it, near where the pilot had put the optima; bracket's start
lies up to 66 times from the first optimum, and it knows nothing of the range.

Written to benchmarks/results/search.json (every run of the grids) and search.md: counts, no times.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from search_networks import experiment, graph_of

from etastar.fit import Optimum, find_optimum
from etastar.graph import effective_depth
from etastar.sweep.optimum import size_optimum
from etastar.sweep.record import TrialRecord
from etastar.sweep.running import run_point
from etastar.sweep.search import Bracket, Context, Grid, OptunaSearch, Search
from etastar.sweep.space import Budget, Size

RESULTS = Path(__file__).parent / "results"
SEEDS, PILOT_SEEDS = (0, 1), (991,)
NUM_RATES, NUM_OPTUNA_RATES, FACTOR, TOLERANCE = 80, 40, 1.6, 0.15


@dataclass(frozen=True)
class Case:
    """One network: its depths, the grid's range as powers of ten, and bracket's start."""

    title: str
    depths: tuple[int, ...]
    low: float
    high: float
    start: float
    budget: Budget

    @property
    def rates(self) -> tuple[float, ...]:
        """The dense grid."""
        return tuple(np.logspace(self.low, self.high, NUM_RATES).tolist())


CASES = {
    "mlp": Case("MLP, SGD, digits", (2, 4, 8, 16), -2.5, 0.5, 0.1, Budget(100, 64)),
    "resnet": Case("residual CNN, Adam, digits", (1, 2, 4, 8), -3.75, -0.75, 1e-3, Budget(50, 32)),
    "gpt": Case("GPT, Adam, stdlib-text", (1, 2, 3, 4), -2.75, 0.25, 1e-3, Budget(40, 16)),
}
Task = tuple[str, str, tuple[int, ...]]


def size_of(depth: int) -> Size:
    """A size of one number."""
    return (("depth", depth),)


def drive(search: Search, network: str, context: Context) -> list[TrialRecord]:
    """All runs that a search asks for, in its order."""
    what = experiment(network, CASES[network].budget)
    records: list[TrialRecord] = []
    while points := search.propose(records, context):
        records += [run_point(what, context.size, point) for point in points]
    return records


def run_bracket(network: str, depths: Sequence[int]) -> dict[int, list[TrialRecord]]:
    """Bracket over the depths, each starting from the optima before it."""
    case, optima, found = CASES[network], [], {}
    lengths = [(size_of(d), float(effective_depth(graph_of(network, d)).effective_depth))
               for d in depths]  # fmt: skip
    for depth in depths:
        context = Context(
            size_of(depth), SEEDS, tuple(optima), case.budget.num_steps, tuple(lengths)
        )
        found[depth] = drive(Bracket(case.start, factor=FACTOR), network, context)
        optimum = size_optimum(found[depth])
        if optimum is not None:
            optima.append((size_of(depth), optimum))
    return found


def run_task(task: Task) -> tuple[Task, dict[int, list[TrialRecord]]]:
    """One method on one network, in a worker."""
    torch.set_num_threads(1)
    method, network, depths = task
    if method == "bracket":
        return task, run_bracket(network, depths)
    case = CASES[network]
    searches: dict[str, Search] = {
        "grid": Grid(case.rates),
        "optuna": OptunaSearch(case.rates[0], case.rates[-1], num_trials=NUM_OPTUNA_RATES),
        "pilot": Grid(case.rates[::11]),
    }
    seeds = PILOT_SEEDS if method == "pilot" else SEEDS
    contexts = {d: Context(size_of(d), seeds, (), case.budget.num_steps) for d in depths}
    return task, {d: drive(searches[method], network, contexts[d]) for d in depths}


def table_of(records: Sequence[TrialRecord]) -> tuple[np.ndarray, np.ndarray]:
    """Rates (num_rates,) in the order of the runs, losses (num_rates, num_seeds)."""
    losses: dict[float, dict[int, float]] = {}
    for record in records:
        losses.setdefault(record.point.lr, {})[record.point.seed] = record.loss
    rows = [[row[seed] for seed in sorted(row)] for row in losses.values()]
    return np.array(list(losses)), np.array(rows)


def grid_optimum(records: Sequence[TrialRecord]) -> Optimum:
    """The dense grid's optimum and interval."""
    lrs, losses = table_of(records)
    reach = int(log(FACTOR) / log(lrs.max() / lrs.min()) * (len(lrs) - 1))
    return find_optimum(lrs, losses, num_points=2 * reach + 1)


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


def steps_of(records: Sequence[TrialRecord]) -> int:
    """Optimizer steps taken."""
    return sum(record.steps for record in records)


def optuna_row(records: Sequence[TrialRecord], grid: Optimum) -> dict[str, Any]:
    """Rates and steps after which Optuna's estimate agrees for good."""
    lrs, losses = table_of(records)
    good = [agrees(estimate(lrs[:n], losses[:n]), grid) for n in range(1, len(lrs) + 1)]
    bad = [n for n, fine in enumerate(good, start=1) if not fine]
    needed = (bad[-1] if bad else 0) + 1
    reached = needed <= len(lrs)
    used = set(lrs[:needed].tolist())
    return {
        "optuna_lr": estimate(lrs, losses),
        "optuna_reached": reached,
        "optuna_rates": min(needed, len(lrs)),
        "optuna_steps": steps_of([r for r in records if r.point.lr in used]),
    }


def row_of(runs: dict[str, list[TrialRecord]]) -> dict[str, Any]:
    """Everything that is reported of one size."""
    grid, optimum = grid_optimum(runs["grid"]), size_optimum(runs["bracket"])
    lr = None if optimum is None else optimum.lr
    return {
        "grid_lr": grid.lr,
        "grid_interval": grid.interval,
        "grid_at_edge": grid.at_edge,
        "grid_steps": steps_of(runs["grid"]),
        "bracket_lr": lr,
        "bracket_runs": len(runs["bracket"]),
        "bracket_steps": steps_of(runs["bracket"]),
        "ratio": None if lr is None else lr / grid.lr,
        "agrees": agrees(lr, grid),
        "regret": None if lr is None else regret(lr, runs["grid"]),
        **optuna_row(runs["optuna"], grid),
    }


def regret(lr: float, records: Sequence[TrialRecord]) -> float:
    """Mean loss of the grid's rate nearest to this one, over the lowest of the grid."""
    lrs, losses = table_of(records)
    mean = losses.mean(1)
    return float(mean[np.argmin(np.abs(np.log(lrs / lr)))] - mean.min())


def compact(records: Sequence[TrialRecord]) -> list[list[float | str]]:
    """Runs as [lr, seed, loss, steps]."""
    return [
        [float(f"{r.point.lr:.6g}"), r.point.seed, str(r.loss) if r.diverged else round(r.loss, 5),
         r.steps]
        for r in records
    ]  # fmt: skip


def run_all(methods: Sequence[str]) -> dict[tuple[str, int], dict[str, list[TrialRecord]]]:
    """Every run of the methods on two processes of one thread."""
    tasks: list[Task] = [("bracket", n, c.depths) for n, c in CASES.items() if "bracket" in methods]
    single = [m for m in methods if m != "bracket"]
    tasks += [(m, n, (d,)) for n, c in CASES.items() for d in c.depths for m in single]
    found: dict[tuple[str, int], dict[str, list[TrialRecord]]] = {}
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for (method, network, _), runs in pool.map(run_task, tasks):
            for depth, records in runs.items():
                found.setdefault((network, depth), {})[method] = records
                print(method, network, depth, len(records), flush=True)
    return found


HEAD = (
    "| depth | grid's optimum | interval | bracket's | ratio | agrees"
    " | loss above the grid's lowest | bracket's runs"
    " | bracket's steps / grid's | Optuna's steps / grid's |"
)


def markdown(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# Steps to the optimal learning rate", "", f"PyTorch {results['torch']}.", ""]
    lines += [(__doc__ or "").split("\n\n", 2)[2].rsplit("\n\n", 1)[0], ""]
    for title, network in results["networks"].items():
        lines += [f"## {title}", "", HEAD, "| --- " * 10 + "|"]
        lines += [markdown_row(depth, row) for depth, row in network["sizes"].items()]
        total = network["total"]
        lines += [
            "",
            f"All depths: bracket agrees at {total['bracket_agrees']} of {total['sizes']}, with "
            f"1/{1 / total['bracket_share']:.1f} of the grid's steps; Optuna at "
            f"{total['optuna_reached']}, with {total['optuna_share']:.2f} of them.",
            "",
        ]
    rows = [row for network in results["networks"].values() for row in network["sizes"].values()]
    fewer = sum(row["agrees"] and row["bracket_steps"] < row["optuna_steps"] for row in rows)
    agreed = sum(row["agrees"] for row in rows)
    lines += [
        f"Of {len(rows)} sizes, bracket agrees at {agreed}, and at {fewer} it does so with fewer "
        "steps than Optuna.",
        "",
    ]
    return "\n".join(lines)


def markdown_row(depth: str, row: dict[str, Any]) -> str:
    """One size."""
    low, high = row["grid_interval"]
    share = row["optuna_steps"] / row["grid_steps"]
    found = row["bracket_lr"] is not None
    cells = [
        depth,
        f"{row['grid_lr']:.4g}" + (" (edge)" if row["grid_at_edge"] else ""),
        f"{low:.4g} to {high:.4g}",
        f"{row['bracket_lr']:.4g}" if found else "none",
        f"{row['ratio']:.2f}" if found else "",
        "yes" if row["agrees"] else "no",
        f"{row['regret']:.4f}" if found else "",
        row["bracket_runs"],
        f"1/{row['grid_steps'] / row['bracket_steps']:.1f}",
        f"{share:.3f}" if row["optuna_reached"] else f"over {share:.3f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def summary(found: dict[tuple[str, int], dict[str, list[TrialRecord]]]) -> dict[str, Any]:
    """What is written."""
    results: dict[str, Any] = {"torch": torch.__version__, "networks": {}}
    for network, case in CASES.items():
        rows = {str(depth): row_of(found[network, depth]) for depth in case.depths}
        grid = sum(row["grid_steps"] for row in rows.values())
        total = {
            "sizes": len(rows),
            "bracket_agrees": sum(row["agrees"] for row in rows.values()),
            "bracket_share": sum(row["bracket_steps"] for row in rows.values()) / grid,
            "optuna_reached": sum(row["optuna_reached"] for row in rows.values()),
            "optuna_share": sum(row["optuna_steps"] for row in rows.values()) / grid,
        }
        runs = {
            str(depth): {method: compact(rs) for method, rs in found[network, depth].items()}
            for depth in case.depths
        }
        results["networks"][case.title] = {"sizes": rows, "total": total, "runs": runs}
    return results


def main() -> None:
    """Run the pilot, or the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pilot", action="store_true", help="another seed, eight rates; no result")
    if parser.parse_args().pilot:
        for (network, depth), runs in run_all(["pilot"]).items():
            lrs, losses = table_of(runs["pilot"])
            print(
                network,
                depth,
                [f"{a:.2g}: {b:.3f}" for a, b in zip(lrs, losses[:, 0], strict=True)],
            )
        return
    results = summary(run_all(["bracket", "grid", "optuna"]))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "search.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")
    (RESULTS / "search.md").write_text(markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
