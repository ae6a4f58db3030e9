"""Steps that ending hopeless runs saves, and what it does to the optimum.

Usage: python benchmarks/stopping.py

Optuna's default sampler asks for 20 rates of three decades with two seeds, on the networks of the
search benchmark, at each depth once with hopeless runs ended and once without. The first seeds that
were not used there, and one seed of the sampler; nothing was run before. TPE is told how far an
ended run had come, so from the first of them on it may ask for other rates; quasi-random rates
("qmc") depend on no loss, so there the two optima are those of the same rates.

Written to benchmarks/results/stopping.md: counts, no times.
"""

from __future__ import annotations

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from search import WITH_ADAM, drive, size_of
from search_networks import experiment

from etastar.sweep.optimum import size_optimum
from etastar.sweep.record import TrialRecord
from etastar.sweep.running import run_point
from etastar.sweep.search import Context, OptunaSearch
from etastar.sweep.space import Point, Size

SEEDS, NUM_RATES = (14, 15), 20
Task = tuple[str, int, str]


def run_task(task: Task) -> tuple[str, bool]:
    """One row, and whether both optima are the same."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    network, depth, sampler = task
    case = WITH_ADAM[network]
    what = experiment(network, case.budget)

    def run(size: Size, point: Point) -> TrialRecord:
        return run_point(what, size, point)

    search = OptunaSearch(10**case.low, 10**case.high, NUM_RATES, sampler)
    context = Context(size_of(depth), SEEDS, (), case.budget.num_steps)
    stopping = drive(search, context, run)
    whole = drive(replace(search, stop_hopeless=False), context, run)
    steps = [sum(record.steps for record in records) for records in (stopping, whole)]
    rates = [f"{found.lr:.4g}" if (found := size_optimum(records)) else "none"
             for records in (stopping, whole)]  # fmt: skip
    cells = [
        case.title,
        depth,
        sampler,
        len(stopping),
        sum(record.diverged for record in stopping),
        sum(record.stopped for record in stopping),
        f"{steps[0] / steps[1]:.3f}",
        *rates,
    ]
    return "| " + " | ".join(map(str, cells)) + " |", rates[0] == rates[1]


def main() -> None:
    """Run everything and write the table."""
    tasks = [
        (network, depth, sampler)
        for network, case in WITH_ADAM.items()
        for depth in case.depths
        for sampler in ("tpe", "qmc")
    ]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(run_task, tasks))
    preface = (__doc__ or "").split("\n\n", 2)[2].rsplit("\n\n", 1)[0]
    lines = ["# Ending hopeless runs", "", preface]
    lines += ["", "| network | depth | sampler | runs | diverged | stopped | steps over without"
              " | optimum | without |", "| --- " * 9 + "|"]  # fmt: skip
    lines += [row for row, _ in found]
    for sampler in ("tpe", "qmc"):
        equal = [same for task, (_, same) in zip(tasks, found, strict=True) if task[2] == sampler]
        lines += ["", f"{sampler}: the same optimum at {sum(equal)} of {len(equal)} sizes."]
    page = "\n".join(lines) + "\n"
    (Path(__file__).parent / "results" / "stopping.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
