"""How often a "95%" interval from few seeds holds what other seeds show.

Usage: python benchmarks/intervals.py

Read from runs of the search benchmark (intervals.json: seeds, and rate, seed and mean loss of every
run of five comparisons), so that nothing is trained: dense grids of 80 rates at four depths, and
what `bracket` ran of each, two seeds at a time. For every group of
seeds there is an interval of the optimum; what it should hold is the optimum of the mean loss of
all the other seeds' grids. That is an estimate too (of two to eighteen seeds), so that a right
interval holds it a little less often than in 95% of cases. The same is done for the exponent of
the optimum over depth, by `fit_power_law` as the experiments call it.

Two intervals stand side by side: seeds drawn again and nothing else, and that of `find_optimum`,
which knows the error of the grid. All these seeds were seen when the second was designed (its
smoothed bootstrap, which it had before, with seeds 2 to 13 alone); so the second table, of the
seeds of the sixth run, tests it no better than the first. Curves that it was not designed with are
in coverage.md.
Runs of bracket are of pairs of seeds; groups of three and four are of the grids alone.

Written to benchmarks/results/intervals.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import log
from statistics import median
from typing import Any

import numpy as np
from search import RESULTS, num_points
from search_runs import restored, size_of

from etastar.fit import Optimum, find_optimum, fit_power_law
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.sweep.result import loss_table

DESIGN = ("search", "search_replication", "search_adam", "search_measured")
CHECK = ("search_smoothed",)
NOISE_FLOOR = 0.15**2  # variance of log eta* that the experiments always allow for
Estimator = Callable[[np.ndarray, np.ndarray, int], Optimum]
Table = tuple[np.ndarray, np.ndarray]


def by_curves(lrs: np.ndarray, losses: np.ndarray, points: int) -> Optimum:
    """The package's."""
    return find_optimum(lrs, losses, num_points=points)


def by_seeds_alone(lrs: np.ndarray, losses: np.ndarray, points: int) -> Optimum:
    """As `find_optimum` was long ago: seeds drawn again, nothing added."""
    draws = resampled_seeds(losses.shape[1], num_resamples=1000).tolist()
    times = Counter(tuple(sorted(draw)) for draw in draws)
    minima = {
        draw: find_optimum(lrs, losses[:, list(draw)].mean(1), num_points=points).lr
        for draw in times
    }
    resampled = np.array([minima[draw] for draw in times.elements()])
    found = find_optimum(lrs, losses, num_points=points, num_resamples=1)
    return replace(found, interval=percentile_interval(resampled), resampled_lrs=tuple(resampled))


ESTIMATORS: dict[str, Estimator] = {"seeds alone": by_seeds_alone, "find_optimum": by_curves}


@dataclass
class Network:
    """Stored runs of one network by depth: grids with all seeds, bracket's by its seeds."""

    grids: dict[int, dict[int, dict[float, float]]] = field(default_factory=dict)
    brackets: dict[tuple[int, ...], dict[int, Table]] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)

    def add(self, source: str, seeds: tuple[int, ...], depth: int, runs: dict[str, Any]) -> None:
        """One size of one comparison."""
        by_seed = self.grids.setdefault(depth, {})
        for lr, seed, loss in runs["grid"]:
            by_seed.setdefault(seed, {})[lr] = float(loss)
            self.sources[seed] = source
        records = [
            restored(size_of(depth), (lr, seed, loss, 0, 0.0, 0.0))
            for lr, seed, loss in runs["bracket"]
        ]
        self.brackets.setdefault(seeds, {})[depth] = loss_table(records)

    def grid(self, depth: int, seeds: Sequence[int]) -> Table:
        """Rates and losses (num_rates, num_seeds) of some seeds."""
        by_seed = self.grids[depth]
        lrs = np.array(sorted(by_seed[seeds[0]]))
        return lrs, np.array([[by_seed[seed][lr] for seed in seeds] for lr in lrs])

    def other_optimum(self, depth: int, seeds: Sequence[int]) -> float:
        """The optimum of all other seeds; where these served the design, of those that did."""
        known = DESIGN if self.sources[seeds[0]] in DESIGN else (*DESIGN, *CHECK)
        others = [s for s, source in self.sources.items() if source in known and s not in seeds]
        lrs, losses = self.grid(depth, others)
        return find_optimum(lrs, losses.mean(1), num_points=num_points(lrs)).lr


def stored_networks() -> dict[str, Network]:
    """All networks of all comparisons that there are."""
    found: dict[str, Network] = {}
    for name, comparisons in json.loads((RESULTS / "intervals.json").read_text()).items():
        for comparison in comparisons:
            for network, sizes in comparison["runs"].items():
                for depth, runs in sizes.items():
                    one = found.setdefault(network, Network())
                    one.add(name, tuple(comparison["seeds"]), int(depth), runs)
    return found


def groups(network: Network, sources: Sequence[str], num_seeds: int) -> Iterator[tuple[int, ...]]:
    """Disjoint groups of seeds, in order, that leave two seeds or more to compare with."""
    seeds = sorted(seed for seed, source in network.sources.items() if source in sources)
    if len(network.sources) < num_seeds + 2:
        return
    for first in range(0, len(seeds) - num_seeds + 1, num_seeds):
        yield tuple(seeds[first : first + num_seeds])


@dataclass
class Count:
    """Of one kind of interval: whether each held, and half its width."""

    held: list[bool] = field(default_factory=list)
    half_widths: list[float] = field(default_factory=list)

    def add(self, low: float, high: float, truth: float) -> None:
        """Ends and truth on the axis on which widths are counted."""
        self.held.append(low - 1e-9 <= truth <= high + 1e-9)
        self.half_widths.append((high - low) / 2)

    def cells(self) -> list[str]:
        """As they stand in the table."""
        share = f"{sum(self.held)} of {len(self.held)} ({100 * np.mean(self.held):.0f}%)"
        return [share, f"{median(self.half_widths):.2f}"]


def counted(
    network: Network, of_seeds: Sequence[tuple[int, ...]], estimator: Estimator, *, bracket: bool
) -> tuple[Count, Count]:
    """Optima and exponents of one network."""
    optima, exponents = Count(), Count()
    for seeds in of_seeds:
        found, others = [], []
        for depth in sorted(network.grids):
            if bracket:
                (lrs, losses), points = network.brackets[seeds][depth], 3
            else:
                lrs, losses = network.grid(depth, seeds)
                points = num_points(lrs)
            found.append(estimator(lrs, losses, points))
            others.append(network.other_optimum(depth, seeds))
            low, high = found[-1].interval or (0.0, 0.0)
            optima.add(log(low), log(high), log(others[-1]))
        depths = sorted(network.grids)
        fit = fit_power_law(depths, found, variance_floor=NOISE_FLOOR)
        assert fit.exponent_interval is not None
        exponents.add(*fit.exponent_interval, fit_power_law(depths, others).exponent)
    return optima, exponents


def merged(counts: Sequence[Count]) -> Count:
    """All networks together."""
    return Count(
        [held for count in counts for held in count.held],
        [width for count in counts for width in count.half_widths],
    )


def rows(networks: dict[str, Network], sources: Sequence[str]) -> Iterator[str]:
    """The table's rows: bracket with two seeds, the grids with two, three and four."""
    cases = [("a sweep by bracket", 2, True)]
    cases += [("a dense grid", num_seeds, False) for num_seeds in (2, 3, 4)]
    for title, num_seeds, bracket in cases:
        per_estimator = {
            name: [
                counted(one, list(groups(one, sources, num_seeds)), estimator, bracket=bracket)
                for one in networks.values()
            ]
            for name, estimator in ESTIMATORS.items()
        }
        for index, what in enumerate(("optimum", "exponent")):
            cells = [f"{what} of {title}", str(num_seeds)]
            for found in per_estimator.values():
                cells += merged([pair[index] for pair in found]).cells()
            yield "| " + " | ".join(cells) + " |"


def main() -> None:
    """Write the tables."""
    networks = stored_networks()
    lines = ["# Intervals from few seeds", "", (__doc__ or "").split("\n\n", 2)[2]]
    head = "| interval of | seeds | " + " | ".join(
        f"{name}: holds | median half-width" for name in ESTIMATORS
    )
    for title, sources in (
        ("Seeds 2 to 13", DESIGN),
        ("Seeds 16 to 21", CHECK),
    ):
        lines += [f"## {title}", "", head + " |", "| --- " * 6 + "|"]
        lines += [*rows(networks, sources), ""]
    lines += ["Half-widths of optima are of the rate's logarithm."]
    page = "\n".join(lines) + "\n"
    (RESULTS / "intervals.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
