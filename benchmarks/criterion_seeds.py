"""How often the criterion's intervals hold, and what the defaults say of a wide deep chain.

Usage: python benchmarks/criterion_seeds.py

First part: MLPs of depth 2, 4 and 8, narrow and wide, four random examples, SGD. What 2,000 seeds
say is taken for the truth; 200 disjoint sets of three seeds, and 60 sets of up to 32, have an
interval each of eta* at depth 8 and of its exponent. Beside them the intervals as they were before:
of the arithmetic mean over three seeds, by bootstrap. Second part: the command

    etastar measure zoo:mlp --arg width=512 --sizes depth=8,16,32,64 --data teacher --optimizer sgd

with five first seeds, and what all their seeds say together, by the stream (the command's default)
and by `--pre-activations layers`. Sizes, seeds and sets are fixed below. Written to
benchmarks/results/criterion_seeds.json and criterion_seeds.md; twenty minutes on one core.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from etastar.fit.bootstrap import percentile_interval, resampled_seeds, student_quantile
from etastar.measure import ScanReport, UntilPrecise, measure_update
from etastar.measure.differences import PreActivations
from etastar.measure.seeds import half_width, use_seeds
from etastar.models import build
from etastar.sources.measuring import measure_named
from etastar.sources.recipe_spec import RecipeSpec, named_recipe

RESULTS = Path(__file__).parent / "results"
DEPTHS = (2, 4, 8)
WIDTHS = (16, 128)
NUM_SEEDS = 2000
NUM_FEW = 3
NUM_SETS = {"3 seeds": 200, "as many as it takes": 60}
COMMAND_DEPTHS = (8, 16, 32, 64)
COMMAND_PRE_ACTIVATIONS: tuple[PreActivations, ...] = ("stream", "layers")
FIRST_SEEDS = (0, 100, 200, 300, 400)
_CENTRED = np.log(np.array(COMMAND_DEPTHS) + 1.0) - np.log(np.array(COMMAND_DEPTHS) + 1.0).mean()
SLOPE = _CENTRED / (_CENTRED @ _CENTRED)
"""Weights of a least-squares slope over the logarithm of the effective depth."""

Values = NDArray[np.float64]
Found = tuple[float, float, int]  # middle, half width, number of seeds


def squares(width: int) -> Values:
    """M by depth and seed, (num_depths, NUM_SEEDS)."""
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(4, 1, 8, 8, generator=generator), torch.arange(4)
    reports = [
        measure_update(
            partial(build, "mlp", depth=depth, width=width),
            batch,
            F.cross_entropy,
            optimizer="sgd",
            seeds=NUM_SEEDS,
        )
        for depth in DEPTHS
    ]
    return np.array([report.by_seed for report in reports])


def deepest(log_rates: Values) -> Values:
    """Log eta* of the deepest, by seed."""
    return np.asarray(log_rates[-1])


def exponent(log_rates: Values) -> Values:
    """Exponent of eta* over the effective depth, by seed."""
    centred = np.log(np.array(DEPTHS) + 1.0)
    centred -= centred.mean()
    return np.asarray(centred @ log_rates / (centred @ centred))


def of_few(values: Values) -> Iterator[Found]:
    """Middle, half width and number of seeds of every set of three."""
    for start in range(0, NUM_FEW * NUM_SETS["3 seeds"], NUM_FEW):
        some = values[start : start + NUM_FEW]
        yield float(some.mean()), half_width(some), NUM_FEW


def of_many(values: Values) -> Iterator[Found]:
    """The same of sets that grow until the interval is as narrow as the default asks."""
    limit = UntilPrecise.at_most
    for start in range(0, limit * NUM_SETS["as many as it takes"], limit):
        some: list[float] = []

        def add(seed: int, some: list[float] = some) -> None:
            some.append(float(values[seed]))

        def width(confidence: float, some: list[float] = some) -> float:
            return half_width(some, confidence)

        used = use_seeds(UntilPrecise(first=start), add, width)
        yield float(np.mean(some)), half_width(some, used.confidence), len(some)


def row(width: int, what: str, how: str, found: list[Found], truth: float) -> Any:
    """How often the intervals hold the truth."""
    holds = [abs(middle - truth) <= half for middle, half, _ in found]
    return {
        "width": width,
        "quantity": what,
        "seeds": how,
        "truth": truth,
        "sets": len(found),
        "coverage": float(np.mean(holds)),
        "half_width": float(np.median([half for _, half, _ in found])),
        "num_seeds": float(np.mean([count for *_, count in found])),
    }


def before(width: int, what: str, quantity: Callable[[Values], Values], found: Values) -> Any:
    """The bootstrap over three seeds of what their arithmetic mean says."""
    truth = float(quantity(-0.5 * np.log(found.mean(1, keepdims=True)))[0])
    draws = resampled_seeds(NUM_FEW)
    ends = [
        percentile_interval(
            quantity(-0.5 * np.log(found[:, start : start + NUM_FEW][:, draws].mean(2)))
        )
        for start in range(0, NUM_FEW * NUM_SETS["3 seeds"], NUM_FEW)
    ]
    middles = [((low + high) / 2, (high - low) / 2, NUM_FEW) for low, high in ends]
    return row(width, what, "3, bootstrap of the mean", middles, truth)


def coverage() -> list[dict[str, Any]]:
    """All rows of the first part."""
    rows = []
    for width in WIDTHS:
        found = squares(width)
        for what, quantity in (("log eta*, depth 8", deepest), ("exponent", exponent)):
            values = quantity(-0.5 * np.log(found))
            truth = float(values.mean())
            rows.append(before(width, what, quantity, found))
            for how, sets in (("3 seeds", of_few), ("as many as it takes", of_many)):
                rows.append(row(width, what, how, list(sets(values)), truth))
    return rows


def command(pre_activations: PreActivations) -> list[dict[str, Any]]:
    """What the command says from each first seed, and from all seeds together.

    Args:
        pre_activations: `stream`, the command's default, or another of its choices.

    Returns:
        A row for each first seed, and one for all: the exponent of a typical network with its
        interval, and that of the arithmetic mean over seeds with the jackknife's.
    """
    spec = RecipeSpec("zoo:mlp", "teacher", "sgd", {"width": 512}, num_steps=1, batch_size=64)
    sizes = [{"depth": depth} for depth in COMMAND_DEPTHS]
    said, log_rates = [], []
    for first in FIRST_SEEDS:
        scan = measure_named(
            named_recipe(spec),
            sizes,
            seeds=UntilPrecise(first=first),
            pre_activations=pre_activations,
        )
        assert isinstance(scan, ScanReport)
        found = scan.exponents["depth"]
        log_rates.append(-0.5 * np.log([point.report.by_seed for point in scan.points]))
        said.append(
            {
                "first": first,
                "seeds": len(scan.points[0].report.seeds),
                "exponent": found.exponent,
                "interval": found.interval,
                **of_mean(log_rates[-1]),
                "num_passes": scan.num_passes,
            }
        )
    together = np.concatenate(log_rates, axis=1)
    slopes = SLOPE @ together
    apart = np.sqrt(SLOPE**2 @ together.var(axis=1, ddof=1))
    middle, half = float(slopes.mean()), half_width(slopes)
    return [
        *said,
        {
            "first": "all",
            "seeds": together.shape[1],
            "exponent": middle,
            "interval": (middle - half, middle + half),
            **of_mean(together),
            "shared_over_separate": float(slopes.std(ddof=1) / apart),
        },
    ]


def of_mean(log_rates: Values) -> dict[str, Any]:
    """Exponent by the arithmetic mean of M over seeds, and the jackknife's 95% interval."""
    mean_squares = np.exp(-2 * log_rates)
    count = log_rates.shape[1]

    def slope(squares: Values) -> float:
        return float(SLOPE @ (-0.5 * np.log(squares.mean(axis=1))))

    middle = slope(mean_squares)
    without = np.array([slope(np.delete(mean_squares, seed, 1)) for seed in range(count)])
    error = float(np.sqrt((count - 1) * without.var()))
    half = student_quantile(0.975, count - 1) * error
    return {"of_mean": middle, "interval_of_mean": (middle - half, middle + half)}


def command_table(said: list[dict[str, Any]]) -> list[str]:
    """Rows of the command, from each first seed and from all."""
    lines = [
        "| first seed | seeds | exponent, typical | 95% interval | exponent of the mean "
        "| 95% interval | forward passes |",
        f"{'| --- ' * 7}|",
    ]
    for one in said:
        low, high = one["interval"]
        lowest, highest = one["interval_of_mean"]
        lines.append(
            f"| {one['first']} | {one['seeds']} | {one['exponent']:.2f} | {low:.2f} to {high:.2f} "
            f"| {one['of_mean']:.2f} | {lowest:.2f} to {highest:.2f} "
            f"| {one.get('num_passes', '')} |"
        )
    return lines


def table(rows: list[dict[str, Any]], said: Mapping[PreActivations, list[dict[str, Any]]]) -> str:
    """The results as Markdown."""
    shared = said["stream"][-1]["shared_over_separate"]
    lines = [
        "# Intervals of the criterion over seeds",
        "",
        f"MLPs of depth {', '.join(map(str, DEPTHS))}, four examples, SGD. The truth is what "
        f"{NUM_SEEDS} seeds say; coverage is the share of the sets whose 95% interval holds it.",
        "",
        "| width | quantity | seeds | sets | coverage | half width (median) | seeds used (mean) |",
        f"{'| --- ' * 7}|",
    ]
    lines += [
        f"| {one['width']} | {one['quantity']} | {one['seeds']} | {one['sets']} | "
        f"{one['coverage']:.3f} | {one['half_width']:.2f} | {one['num_seeds']:.1f} |"
        for one in rows
    ]
    lines += [
        "",
        "`etastar measure zoo:mlp --arg width=512 --sizes depth=8,16,32,64 --data teacher "
        "--optimizer sgd --seeds FIRST-`: a typical network's exponent (geometric mean of M over "
        "seeds, what the command says), and beside it that of the arithmetic mean with the "
        "jackknife's interval.",
        "",
        *command_table(said["stream"]),
        "",
        "Sizes share seeds; the exponent's standard deviation over seeds is "
        f"{shared:.2f} times that of sizes with seeds of their own.",
        "",
        "The same with `--pre-activations layers`, the default before the laws' own:",
        "",
        *command_table(said["layers"]),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, write and print."""
    torch.set_num_threads(1)
    rows = coverage()
    said = {one: command(one) for one in COMMAND_PRE_ACTIVATIONS}
    RESULTS.mkdir(exist_ok=True)
    results = {"coverage": rows, "command": said}
    (RESULTS / "criterion_seeds.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "criterion_seeds.md").write_text(table(rows, said))
    print(table(rows, said))


if __name__ == "__main__":
    main()
