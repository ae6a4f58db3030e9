"""How often a "95%" interval of optimum and exponent holds the truth, and how wide it is.

Usage: python benchmarks/coverage.py [GROUPS]

Nothing is trained: curves whose minimum is known, with noise as training has it. A run's loss is
the curve, what its seed adds at all rates (ten times the noise), and the noise: half of its
variance independent, half correlated between rates (by e^(-distance / 0.3) in log lr, as on the
dense grids of intervals.json), larger where the loss is high. The noise's standard deviation is
given as a share of how much the loss rises within a factor of 2 above the optimum.

A group is four sizes, L = 2, 4, 8, 16, whose optimum goes with L^-1.3 from a random place; each has
the rates of one lattice within a factor of 5 of its optimum, five or more. So the minimum lies
anywhere between two rates. A cell is `held (width)`: the share of intervals that hold the optimum
or the exponent, of GROUPS (25) groups, and the median ratio of the interval's ends, or for the
exponent their median difference. Standard error of a share near 0.95: 0.02 of 100 optima, 0.04 of
25 exponents.

*steep* is 2 (e^(4x) - 4x - 1) / 16, *one side steep* x^2, nine times as much on the right, *flat*
x^4, *plateau* a loss that levels off on the left and rises as e^(2.5 x) on the right, *wall* x^2 +
e^(8 (x - 0.7)), *diverging* the steep one with every run diverged from a place between 0.2 and 1.2
in log lr above the optimum.
The first three are among the estimator's own shapes, the fourth lies between two of them; the
others are none.

Written to benchmarks/results/coverage.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from etastar.fit import find_optimum, fit_power_law

RESULTS = Path(__file__).parent / "results"
FACTORS, SEEDS, NOISES = (1.2, 2.0, 4.0), (2, 4, 8), (0.02, 0.1, 0.5)
WIDE = 10
SIZES, EXPONENT = np.array([2.0, 4.0, 8.0, 16.0]), -1.3
Curve = Callable[[np.ndarray], np.ndarray]


def steep(x: np.ndarray) -> np.ndarray:
    """A wall on the right, a slope on the left."""
    return 2 * (np.expm1(4 * x) - 4 * x) / 16


def from_minimum(curve: Curve) -> Curve:
    """The curve with its minimum, which has no closed form, moved to 0."""
    fine = np.linspace(-3, 3, 600_001)
    values = curve(fine)
    where, least = fine[values.argmin()], values.min()
    return lambda x: curve(x + where) - least


CURVES: dict[str, Curve] = {
    "parabola": np.square,
    "steep": steep,
    "flat": lambda x: x**4,
    "one side steep": lambda x: np.where(x > 0, 9, 1) * x**2,
    "plateau": from_minimum(lambda x: 0.02 * np.exp(2.5 * x) - 1 / (1 + np.exp(-1.5 * x))),
    "wall": from_minimum(lambda x: x**2 + np.exp(8 * (x - 0.7))),
    "diverging": steep,
}


def losses(
    rng: np.random.Generator, curve: Curve, x: np.ndarray, noise: float, num_seeds: int
) -> np.ndarray:
    """Losses (num_lrs, num_seeds) at these distances of log lr from the optimum."""
    clean, rise = curve(x), float(curve(np.log(np.array([2.0])))[0])
    apart = np.abs(np.subtract.outer(x, x))
    covariance = (np.exp(-apart / 0.3) + np.eye(len(x))) / 2
    common = np.linalg.cholesky(covariance) @ rng.standard_normal((len(x), num_seeds))
    growth = 1 + 0.3 * np.sqrt(clean / rise)
    level = 10 * rng.standard_normal(num_seeds)
    return clean[:, None] + noise * rise * (level + growth[:, None] * common)


def cell(
    name: str, factor: float, num_seeds: int, noise: float, num_groups: int
) -> tuple[str, str]:
    """Share that held and median width, of the optima and of the exponents."""
    rng = np.random.default_rng([list(CURVES).index(name), round(100 * factor), num_seeds])
    step = np.log(factor)
    reach = max(np.log(5), 2.5 * step)
    optima, exponents = [], []
    for _ in range(num_groups):
        found = []
        for truth in EXPONENT * np.log(SIZES) + rng.uniform(-9, 9):
            x = step * np.arange(np.ceil((truth - reach) / step), (truth + reach) / step) - truth
            table = losses(rng, CURVES[name], x, noise, num_seeds)
            if name == "diverging":
                table[x > rng.uniform(0.2, 1.2)] = np.inf
            found.append(find_optimum(np.exp(x + truth), table, num_resamples=2))
            low, high = np.log(found[-1].interval or (1.0, 1.0)) - truth
            optima.append((low, high))
        low, high = fit_power_law(SIZES, found).exponent_interval or (0.0, 0.0)
        exponents.append((low - EXPONENT, high - EXPONENT))
    texts = []
    for ends, width in ((np.array(optima), np.exp), (np.array(exponents), np.array)):
        held = np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0))
        texts.append(f"{held:.2f} ({width(np.median(ends[:, 1] - ends[:, 0])):.2f})")
    return texts[0], texts[1]


def main() -> None:
    """Write both tables."""
    num_groups = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    columns = [(factor, seeds) for factor in FACTORS for seeds in SEEDS]
    head = "| curve | noise | " + " | ".join(f"x{f:g}, {s} seeds" for f, s in columns) + " |"
    rows: dict[str, list[str]] = {"optimum": [], "exponent": []}
    for name in CURVES:
        for noise in NOISES:
            cells = [cell(name, f, s, noise, num_groups) for f, s in columns]
            for place, what in enumerate(rows):
                texts = [name, f"{noise:g}", *(pair[place] for pair in cells)]
                rows[what].append("| " + " | ".join(texts) + " |")
    lines = ["# Coverage of the intervals", "", (__doc__ or "").split("\n\n", 2)[2]]
    wide = [
        f"{row.split(' | ')[0][2:]} at noise {row.split(' | ')[1]}, x{f:g}, {s} seeds: {text}"
        for row in rows["optimum"]
        for (f, s), text in zip(columns, row.strip("| ").split(" | ")[2:], strict=True)
        if float(text.split("(")[1][:-1]) > WIDE
    ]
    lines += [f"Optima whose interval is of no use, wider than a factor of {WIDE}:", ""]
    lines += [*(f"- {one}" for one in wide), ""]
    for what, table in rows.items():
        lines += [f"## The {what}", "", head, "| --- " * (len(columns) + 2) + "|", *table, ""]
    (RESULTS / "coverage.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
