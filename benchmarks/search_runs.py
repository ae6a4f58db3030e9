"""The runs of the search benchmark: what the dense grid and bracket train, and how it is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from search_networks import graph_of, recipe

from etastar.fit import Optimum, find_optimum
from etastar.sweep.recipe import Point, Size, measured_start
from etastar.sweep.result import loss_table
from etastar.sweep.search import Bracket, Context, Grid, Search
from etastar.sweep.trial import TrialRecord, run_trial

NUM_RATES, FACTOR = 80, 1.6
Records = dict[int, list[TrialRecord]]
"""Runs by depth."""
Run = Callable[[Size, Point], TrialRecord]


@dataclass(frozen=True)
class Case:
    """One network: its depths, the grid's range as powers of ten, steps and batch size."""

    title: str
    depths: tuple[int, ...]
    low: float
    high: float
    budget: tuple[int, int]

    @property
    def rates(self) -> tuple[float, ...]:
        """The dense grid, in six digits as it is stored."""
        return tuple(float(f"{lr:.6g}") for lr in np.logspace(self.low, self.high, NUM_RATES))


CASES = {
    "mlp-tanh": Case("MLP of width 128, tanh, SGD, digits", (2, 4, 8, 16), -2.5, 0.5, (100, 64)),
    "resnet": Case("residual CNN, Adam, digits", (1, 2, 4, 8), -3.75, -0.75, (50, 32)),
    "gpt": Case("GPT, Adam, stdlib-text", (1, 2, 3, 4), -2.75, 0.25, (40, 16)),
}


def size_of(depth: int) -> Size:
    """A size of one number."""
    return (("depth", depth),)


def trained(network: str) -> Run:
    """Training, as a sweep does it."""
    return partial(run_trial, recipe(network, *CASES[network].budget))


def drive(search: Search, context: Context, run: Run) -> list[TrialRecord]:
    """All runs that a search asks for, in its order."""
    records: list[TrialRecord] = []
    while points := search.propose(records, context):
        records += [run(context.size, point) for point in points]
    return records


def run_grid(network: str, seeds: tuple[int, ...]) -> Records:
    """The dense grid at every depth."""
    case = CASES[network]
    contexts = {d: Context(size_of(d), seeds, (), case.budget[0]) for d in case.depths}
    return {d: drive(Grid(case.rates), contexts[d], trained(network)) for d in case.depths}


def optimum_of(records: Sequence[TrialRecord]) -> Optimum | None:
    """What a sweep reports, but for its interval, which nothing here asks for."""
    lrs, losses = loss_table(records)
    if not np.isfinite(losses).all(1).any():
        return None
    return find_optimum(lrs, losses, num_resamples=1)


def run_bracket(network: str, seeds: tuple[int, ...], run: Run, start: float | None) -> Records:
    """Bracket over the depths, each starting from the optima before it; None has it measured."""
    case = CASES[network]
    optima: list[Any] = []
    found: Records = {}
    lengths = tuple(
        (size_of(depth), float(graph_of(network, depth).depth().effective_depth))
        for depth in case.depths
    )
    for depth in case.depths:
        context = Context(size_of(depth), seeds, tuple(optima), case.budget[0], lengths)
        if start is None and not optima:
            measured = measured_start(recipe(network, *case.budget), context.size, seeds)
            context = replace(context, start=measured)
        found[depth] = drive(Bracket(start, factor=FACTOR), context, run)
        optimum = optimum_of(found[depth])
        if optimum is not None:
            optima.append((size_of(depth), optimum))
    return found


def compact(record: TrialRecord) -> list[Any]:
    """A run as lr, seed, mean loss, steps, loss before and at the end."""
    end = float(np.mean(record.losses[-max(1, len(record.losses) // 4) :]))
    loss, first, last = (
        round(value, 5) if np.isfinite(value) else str(value)
        for value in (record.loss, record.initial_loss, end)
    )
    return [record.point.lr, record.point.seed, loss, record.steps, first, last]


def restored(size: Size, run: Sequence[Any]) -> TrialRecord:
    """A stored run; of its curve only the end is known."""
    lr, seed, loss, steps, first, last = run
    loss = float(loss)
    return TrialRecord(
        size, Point(lr, seed), loss, (float(last),), not np.isfinite(loss), steps, float(first)
    )


def to_store(records: Records) -> dict[str, list[Any]]:
    """Runs of one network as they are stored."""
    return {str(depth): [compact(run) for run in runs] for depth, runs in records.items()}


def from_store(stored: dict[str, list[Any]], seeds: Sequence[int]) -> Records:
    """Stored runs of one network with some of the seeds."""
    return {
        int(depth): [restored(size_of(int(depth)), run) for run in runs if run[1] in seeds]
        for depth, runs in stored.items()
    }
