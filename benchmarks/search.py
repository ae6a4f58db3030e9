"""Steps to the optimal learning rate: bracket against a dense grid and Optuna's default sampler.

Usage: python benchmarks/search.py [--grid | --tables]

Three networks at four depths each. The grid has 80 rates over three decades, each with two seeds;
bracket trains with the same seeds. Its first depth starts where the maximal-update criterion allows
before training, measured with these seeds (six forward passes a seed, counted as two steps), the
others where its own optima predict; it is not told the grid's range, which comes from a pilot with
one other seed and eight rates.

One estimator: a parabola in log lr through the rates within one factor (1.6) of the lowest mean
loss. On the grid these are 11 rates, for bracket it is what a sweep reports. An estimate agrees
with the grid's when it is within 15% of it (a ratio of 1 / 1.15 to 1.15) or inside the grid's
interval, that of `find_optimum` when this was run: a smoothed bootstrap over seeds, without the
error of the grid that it has since.
Optuna's trial is one rate with all seeds, read from the grid's own runs: the rate that its sampler
asks for is moved to the nearest of the 80, at most 4.5% away. Its steps are those after which its
estimate agrees and goes on agreeing, up to 40 rates; the median of 20 seeds of the sampler counts.
That is counted in hindsight: Optuna does not know when it agrees, while bracket stops by itself.
Optuna is given the grid's range. Beside it stands how many of the 20 draws agree after as many
steps as bracket took. Beside the run of bracket as a sweep does it, 20 more are read from the
grid's own runs, with starts evenly spread over its range: how many agree, and their mean runs.

This was the seventh comparison; the six before it (in this repository's history) had ended with
bracket agreeing at 32 of 36 sizes of an MLP with ReLU, whose optimum the grid itself does not
determine (the optima of its halves, every other rate, are more than 15% apart at 16 of 40 sizes),
and at all 72 of the other two networks. So the MLP was exchanged, after its outcome was known, for
one with tanh, chosen by the grid's halves alone; what is shown here is not shown for ReLU. With
tanh, bracket as it was then agreed at all 36 sizes, with 1/20 to 1/27 of the grid's steps.

What follows was declared, and committed, before bracket was run again. Bracket has changed since:
it stops by the bootstrap over seeds of `find_optimum`, no longer by Student's quantile. So its side
is run once more, once, and every run is kept: same networks, depths, steps, seeds, tolerance. The
grid's runs are those of then. That they still hold was seen at one rate (the 41st) and seed of each
of the 12 sizes: nine losses are the same to five digits, two within 0.01%, that of the MLP at
depth 16 within 0.8% (its rounding differs from one machine to the next, and 100 steps enlarge it).

The goal is judged with all three pairs of seeds (22 and 23, 24 and 25, 26 and 27): in each, and on
each of the three networks, bracket agrees at all four depths, with at most 1/15 of the grid's steps
over the depths together, and fewer steps over the depths together than Optuna's medians.

With two seeds the new way to stop can change nothing: one seed tells no interval, and after two
there is no further seed. So bracket is run with all six seeds too, against the grid of all six,
where it can stop after two to six. That is no part of the goal, and nothing like it was run before.

Written to benchmarks/results/search.json (every run) and search.md: counts, no times. Without an
option bracket is run against the stored grid; --grid trains the grid anew (half an hour), --tables
makes the tables again from the stored runs.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, log
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import optuna
import torch
from search_runs import (
    CASES,
    FACTOR,
    NUM_RATES,
    Records,
    from_store,
    optimum_of,
    run_bracket,
    run_grid,
    size_of,
    to_store,
    trained,
)

from etastar.fit import Optimum, find_optimum
from etastar.sweep.recipe import Point, Size
from etastar.sweep.result import loss_table
from etastar.sweep.trial import TrialRecord

RESULTS = Path(__file__).parent / "results"
ALL_SEEDS = (22, 23, 24, 25, 26, 27)
SEEDS = ((22, 23), (24, 25), (26, 27), ALL_SEEDS)
MEASURING_STEPS = 2  # per seed: six forward passes, of which a training step takes about three
TOLERANCE, NUM_DRAWS, NUM_OPTUNA_RATES = 0.15, 20, 40


def num_points(lrs: np.ndarray) -> int:
    """Rates of the dense grid within a factor of one, itself included."""
    return 2 * int(log(FACTOR) / log(lrs.max() / lrs.min()) * (len(lrs) - 1)) + 1


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
    return grid.interval[0] <= lr <= grid.interval[1] or is_near(lr, grid)


def is_near(lr: float, grid: Optimum) -> bool:
    """Within 15% of the grid's optimum."""
    return 1 / (1 + TOLERANCE) <= lr / grid.lr <= 1 + TOLERANCE


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


def bracket_on_grid(network: str, grids: Records, seeds: tuple[int, ...], start: float) -> Records:
    """Bracket on the grid's runs; beyond the grid's range a rate counts as diverged."""
    by_size = {size_of(depth): {run.point: run for run in runs} for depth, runs in grids.items()}
    lrs = np.array(CASES[network].rates)

    def run(size: Size, point: Point) -> TrialRecord:
        nearest = lrs[np.argmin(np.abs(np.log(lrs / point.lr)))]
        found = by_size[size][Point(float(nearest), point.seed)]
        if not lrs[0] / 1.05 < point.lr < lrs[-1] * 1.05:
            return replace(found, point=point, loss=inf, diverged=True)
        return replace(found, point=point)

    return run_bracket(network, seeds, run, start)


def steps_of(records: Sequence[TrialRecord]) -> int:
    """Optimizer steps taken."""
    return sum(record.steps for record in records)


@dataclass(frozen=True)
class Row:
    """What is reported of one size."""

    depth: int
    grid: Optimum
    halves: float  # ratio of the optima of every other rate
    grid_steps: int
    lr: float | None
    excess: float | None  # of the grid's loss at the nearest rate over its lowest
    runs: int
    steps: int
    optuna_steps: float
    optuna_paid: int
    others_agree: int
    others_runs: float

    @property
    def agrees(self) -> bool:
        """Whether bracket's optimum does."""
        return agrees(self.lr, self.grid)

    def cells(self) -> list[str]:
        """As they stand in the table."""
        assert self.grid.interval is not None
        share = self.optuna_steps / self.grid_steps
        return [
            str(self.depth),
            f"{self.grid.lr:.4g}" + (" (edge)" if self.grid.at_edge else ""),
            "{:.4g} to {:.4g}".format(*self.grid.interval),
            f"{self.halves:.2f}",
            "none" if self.lr is None else f"{self.lr:.4g}",
            "" if self.lr is None else f"{self.lr / self.grid.lr:.2f}",
            "yes" if self.agrees else "no",
            "" if self.excess is None else f"{self.excess:.4f}",
            str(self.runs),
            f"1/{self.grid_steps / self.steps:.1f}",
            f"over {NUM_OPTUNA_RATES / NUM_RATES}" if share == inf else f"1/{1 / share:.1f}",
            str(self.optuna_paid),
            str(self.others_agree),
            f"{self.others_runs:.1f}",
        ]


HEAD = (
    "depth | grid's optimum | interval | its halves apart | bracket's | ratio | agrees"
    " | loss above the grid's lowest | bracket's runs | bracket's steps / grid's"
    " | Optuna's steps / grid's, median of 20 | Optuna agrees after bracket's steps, of 20"
    " | bracket from 20 starts: agrees | mean runs"
)


def row_of(
    depth: int, runs: Sequence[TrialRecord], own: Sequence[TrialRecord], others: Sequence[Records],
    start_steps: int,
) -> Row:  # fmt: skip
    """One size, from the grid's runs, bracket's own, and those from other starts."""
    lrs, losses = loss_table(runs)
    grid = find_optimum(lrs, losses, num_points=num_points(lrs))
    optimum = optimum_of(own)
    lr = None if optimum is None else optimum.lr
    steps, per_rate = steps_of(own) + start_steps, steps_of(runs) / len(lrs)
    draws = [
        optuna_rates(lrs, losses, grid, seed, steps_of(own) / per_rate) for seed in range(NUM_DRAWS)
    ]
    found = [optimum_of(other[depth]) for other in others]
    mean = losses.mean(1)
    halves = [estimate(lrs[first::2], losses[first::2]) or inf for first in (0, 1)]
    nearest = None if lr is None else mean[np.argmin(np.abs(np.log(lrs / lr)))]
    return Row(
        depth=depth,
        grid=grid,
        halves=max(halves) / min(halves),
        grid_steps=steps_of(runs),
        lr=lr,
        excess=None if nearest is None else float(nearest - mean.min()),
        runs=len(own),
        steps=steps,
        optuna_steps=per_rate * median(inf if n is None else n for n, _ in draws),
        optuna_paid=sum(fine for _, fine in draws),
        others_agree=sum(agrees(o.lr if o else None, grid) for o in found),
        others_runs=fmean(len(other[depth]) for other in others),
    )


def rows_of(network: str, grids: Records, own: Records, seeds: tuple[int, ...]) -> list[Row]:
    """The rows of one network; the first depth pays for the measured start."""
    case = CASES[network]
    starts = np.logspace(case.low, case.high, NUM_DRAWS + 2)[1:-1]
    others = [bracket_on_grid(network, grids, seeds, float(start)) for start in starts]
    return [
        row_of(depth, grids[depth], own[depth], others,
               MEASURING_STEPS * len(seeds) if depth == case.depths[0] else 0)
        for depth in case.depths
    ]  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One network with one group of seeds."""

    seeds: tuple[int, ...]
    network: str
    rows: list[Row]

    @property
    def agreed(self) -> int:
        """Sizes at which bracket agrees."""
        return sum(row.agrees for row in self.rows)

    @property
    def shares(self) -> tuple[float, float]:
        """Steps over all depths, as a part of the grid's: bracket's, and Optuna's medians."""
        grid = sum(row.grid_steps for row in self.rows)
        own, theirs = (sum(getattr(r, k) for r in self.rows) for k in ("steps", "optuna_steps"))
        return own / grid, theirs / grid

    @property
    def meets_the_goal(self) -> bool:
        """Agreement at all depths, at most 1/15 of the grid's steps, fewer than Optuna's."""
        own, theirs = self.shares
        return self.agreed == len(self.rows) and own <= 1 / 15 and own < theirs

    def cell(self) -> str:
        """Its place in the table of all."""
        own, theirs = (f"1/{1 / share:.1f}" for share in self.shares)
        return f"{self.agreed} of {len(self.rows)}, {own} (Optuna {theirs})"


def named(seeds: Sequence[int]) -> str:
    """A group of seeds, in words."""
    return f"{seeds[0]} {'and' if len(seeds) == 2 else 'to'} {seeds[-1]}"


def overview(sections: Sequence[Section]) -> Iterator[str]:
    """One row for each network, and what comes of the goal."""
    yield "| network | " + " | ".join(f"seeds {named(seeds)}" for seeds in SEEDS) + " |"
    yield "| --- " * (len(SEEDS) + 1) + "|"
    for network, case in CASES.items():
        cells = [section.cell() for section in sections if section.network == network]
        yield f"| {case.title} | " + " | ".join(cells) + " |"
    pairs = [section for section in sections if len(section.seeds) == 2]
    own, theirs = (
        sum(getattr(row, key) for section in pairs for row in section.rows)
        / sum(row.grid_steps for section in pairs for row in section.rows)
        for key in ("steps", "optuna_steps")
    )
    sizes = sum(len(section.rows) for section in pairs)
    yield ""
    yield (
        f"With two seeds bracket agrees at {sum(section.agreed for section in pairs)} of {sizes} "
        f"sizes, with 1/{1 / own:.1f} of the grid's steps (Optuna's medians: 1/{1 / theirs:.1f}). "
        f"The goal is met in {sum(section.meets_the_goal for section in pairs)} of {len(pairs)} "
        "cases of a network and a pair of seeds."
    )
    far = sum(
        row.agrees and row.lr is not None and not is_near(row.lr, row.grid)
        for section in pairs
        for row in section.rows
    )
    yield f"At {far} of these sizes it is inside the grid's interval, but not within 15%."
    others = sum(row.others_agree for section in pairs for row in section.rows)
    yield (
        f"From 20 starts over the grid's range it agrees in {others} of {NUM_DRAWS * sizes} "
        "searches on the grid's own runs."
    )


def page(stored: dict[str, Any]) -> str:
    """The results as Markdown, a section for each group of seeds and network."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sections = []
    for comparison in stored["bracket"]:
        seeds = tuple(comparison["seeds"])
        for network in CASES:
            grids = from_store(stored["grid"][network], seeds)
            own = from_store(comparison["runs"][network], seeds)
            sections.append(Section(seeds, network, rows_of(network, grids, own, seeds)))
    text = (__doc__ or "").split("\n\n", 2)[2].rsplit("\n\n", 1)[0]
    lines = ["# Steps to the optimal learning rate", "", f"PyTorch {stored['torch']}.", "", text]
    lines += ["", "## All comparisons", "", *overview(sections), ""]
    for section in sections:
        lines += [f"## {CASES[section.network].title}, seeds {named(section.seeds)}", ""]
        lines += [f"| {HEAD} |", "| --- " * (HEAD.count("|") + 1) + "|"]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in section.rows]
        lines += ["", f"Over the depths: {section.cell()}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Train the grid, or run bracket and make the tables, or make the tables alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", action="store_true", help="train the grid anew")
    parser.add_argument("--tables", action="store_true", help="from the stored runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / "search.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    if options.grid:
        grids = {network: to_store(run_grid(network, ALL_SEEDS)) for network in CASES}
        stored = {"torch": torch.__version__, "grid": grids, "bracket": []}
    elif not options.tables:
        stored["bracket"] = [
            {
                "seeds": seeds,
                "runs": {
                    network: to_store(run_bracket(network, seeds, trained(network), None))
                    for network in CASES
                },
            }
            for seeds in SEEDS
        ]
    file.write_text(json.dumps(stored, separators=(",", ":")) + "\n")
    if stored["bracket"]:
        text = page(stored)
        file.with_suffix(".md").write_text(text)
        print(text)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
