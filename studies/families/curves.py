"""What the curves of a family say: optima, whether they are well-posed, exponents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log, log2, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from etastar.fit import Optimum, find_optimum
from etastar.transfer.experience import Parametrization
from studies.families.recipes import family_graph

if TYPE_CHECKING:
    from studies.families.declared import FamilyScale, NetworkFamily
    from studies.families.runs import FamilyRun, RunFile

HALVES_AGREE: Final = 1.5
"""Largest ratio of the optima of two halves of the seeds of a well-posed size."""
LEAST_GAIN: Final = 0.1
"""Least share of the base's gain that the optimum of a well-posed size gains."""
LEAST_SPAN: Final = 4
"""Least ratio of blocks between the well-posed sizes of an exponent that counts."""
LEAST_RATES: Final = 3
"""Of a curve: every search runs more, a rule one or two."""

LEAST_NOISE: Final = 0.15
"""Least standard deviation of a log optimum that is believed: three seeds on a grid of factor 2."""


@dataclass(frozen=True)
class Curve:
    """Losses of one size under one parametrization, over the grid's rates.

    Attributes:
        rates: Powers of two, ascending.
        losses: (rates, seeds); +inf where a run diverged.
        initial_loss: Mean over seeds, of the first batch.
    """

    rates: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    initial_loss: float

    @cached_property
    def optimum(self) -> Optimum:
        """Minimum of the mean curve."""
        return find_optimum(self.rates, self.losses)

    @cached_property
    def best(self) -> tuple[float, float]:
        """Rate of the grid whose mean loss is lowest, and that loss."""
        means = np.array(self.losses).mean(1)
        lowest = int(np.argmin(means))
        return self.rates[lowest], float(means[lowest])

    @property
    def gain(self) -> float:
        """What the best rate gained."""
        return self.initial_loss - self.best[1]

    @cached_property
    def halves(self) -> tuple[float, float]:
        """Optima of the first half of the seeds and of the others."""
        losses = np.array(self.losses)
        middle = max(1, losses.shape[1] // 2)
        parts = (losses[:, :middle], losses[:, middle:])
        first, second = (find_optimum(self.rates, part).lr for part in parts)
        return first, second

    @property
    def log_sd(self) -> float:
        """Standard deviation of the log optimum, at least `LEAST_NOISE`."""
        return max(LEAST_NOISE, sqrt(self.optimum.log_variance or 0.0))

    @property
    def curvature(self) -> float | None:
        """Relative loss that an octave beside the best rate gives away; None at the grid's end."""
        means = np.array(self.losses).mean(1)
        best = int(np.argmin(means))
        if not 0 < best < len(means) - 1 or not np.isfinite(means[best - 1 : best + 2]).all():
            return None
        return float((means[best - 1] + means[best + 1]) / 2 - means[best]) / self.gain


@dataclass(frozen=True)
class Exponent:
    """d log eta* / d log depth of a family under one parametrization.

    Attributes:
        family: Name.
        parametrization: Under which.
        depths: Effective depths whose optima are used, ascending.
        blocks: Blocks or layers of the same sizes, which is how the papers' code counts.
        value: By effective depth.
        sd: Of the value; each optimum counts with its own error.
        by_blocks: The same slope by blocks.
        by_blocks_sd: Of that.
        well_posed: Whether the sizes used are, and span a factor of four.
    """

    family: str
    parametrization: Parametrization
    depths: tuple[int, ...]
    blocks: tuple[int, ...]
    value: float
    sd: float
    by_blocks: float
    by_blocks_sd: float
    well_posed: bool


class FamilyCurves:
    """Everything that the runs of a family at one scale say.

    Args:
        file: Its runs.
    """

    def __init__(self, file: RunFile) -> None:
        self.family: NetworkFamily = file.family
        self.scale: FamilyScale = file.scale
        self.curves = _curves(file.read(), file.scale)

    @property
    def base(self) -> Curve | None:
        """The base under its own initialization."""
        return self.curves.get(("own", self.family.base_depth))

    def curve(self, parametrization: Parametrization, depth: int) -> Curve | None:
        """A curve; at the base, a law's multipliers are one, and it is the network's own."""
        if depth == self.family.base_depth and parametrization != "stabilized":
            parametrization = "own"
        return self.curves.get((parametrization, depth))

    def well_posed(self, parametrization: Parametrization, depth: int) -> bool | None:
        """Whether a size can outcomes a rule; None where it was not run. See the declaration."""
        curve, base = self.curve(parametrization, depth), self.base
        if curve is None or base is None:
            return None
        if curve.optimum.at_edge or not isfinite(curve.best[1]):
            return False
        first, second = curve.halves
        return (
            max(first, second) / min(first, second) < HALVES_AGREE
            and curve.gain >= LEAST_GAIN * base.gain
        )

    def advantage(self, parametrization: Parametrization) -> float | None:
        """How much more a parametrization gains at the deepest size than the own initialization.

        Args:
            parametrization: Which; not "own".

        Returns:
            (lowest mean loss under "own" - lowest under it) / what "own" gained; None without both.
        """
        deepest = self.family.sizes(self.scale)[-1]
        own, other = self.curve("own", deepest), self.curve(parametrization, deepest)
        if parametrization == "own" or own is None or other is None:
            return None
        return (own.best[1] - other.best[1]) / own.gain

    def effective_depth(self, depth: int) -> int:
        """Effective depth of a size."""
        return family_graph(self.family.name, self.scale.name, depth).depth().effective_depth

    def exponent(
        self, parametrization: Parametrization, *, until: int | None = None
    ) -> Exponent | None:
        """The power law through the optima of the well-posed sizes.

        Where these do not span a factor of four, through all that are there, and so marked.

        Args:
            parametrization: Under which.
            until: Largest size to use; None for all.

        Returns:
            The slope; None with fewer than two sizes.
        """
        sizes = [d for d in self.family.sizes(self.scale) if until is None or d <= until]
        found = [(d, curve) for d in sizes if (curve := self.curve(parametrization, d))]
        usable = [(d, c) for d, c in found if isfinite(c.best[1])]
        posed = [(d, c) for d, c in usable if self.well_posed(parametrization, d)]
        spans = bool(posed) and posed[-1][0] >= LEAST_SPAN * posed[0][0]
        usable = posed if spans else usable
        if len(usable) < 2:
            return None
        blocks = tuple(d for d, _ in usable)
        depths = tuple(self.effective_depth(d) for d in blocks)
        logs = [log(c.optimum.lr) for _, c in usable]
        sds = [c.log_sd for _, c in usable]
        value, sd = weighted_slope([log(d) for d in depths], logs, sds)
        by_blocks, by_blocks_sd = weighted_slope([log(d) for d in blocks], logs, sds)
        return Exponent(
            *(self.family.name, parametrization, depths, blocks),
            value=value,
            sd=sd,
            by_blocks=by_blocks,
            by_blocks_sd=by_blocks_sd,
            well_posed=spans,
        )


def weighted_slope(
    x: Sequence[float], y: Sequence[float], sds: Sequence[float]
) -> tuple[float, float]:
    """Slope of the weighted least-squares line, and its standard deviation.

    Args:
        x: Positions, not all equal.
        y: Values.
        sds: Standard deviations of the values.

    Returns:
        sum w (x - m) y / sum w (x - m)^2 with w = 1 / sd^2 and m the weighted mean of x, and
        1 / sqrt(sum w (x - m)^2).

    Example:
        >>> slope, sd = weighted_slope([0.0, 1.0, 2.0], [0.0, -1.0, -2.0], [0.1, 0.1, 0.1])
        >>> round(slope, 6), round(sd, 6)
        (-1.0, 0.070711)
    """
    weights = 1 / np.square(sds)
    offsets = np.asarray(x) - np.average(x, weights=weights)
    spread = float(np.sum(weights * offsets**2))
    return float(np.sum(weights * offsets * np.asarray(y)) / spread), 1 / sqrt(spread)


def _curves(
    runs: Sequence[FamilyRun], scale: FamilyScale
) -> Mapping[tuple[Parametrization, int], Curve]:
    """Curves over three rates or more of the grid, on which a rule's may lie by chance."""
    found: dict[tuple[Parametrization, int], dict[float, dict[int, FamilyRun]]] = {}
    for run in runs:
        if run.num_steps == scale.num_steps and log2(run.lr).is_integer():
            by_rate = found.setdefault((run.parametrization, run.depth), {})
            by_rate.setdefault(run.lr, {})[run.seed] = run
    curves = {}
    for key, by_rate in found.items():
        rates = sorted(lr for lr, by_seed in by_rate.items() if set(scale.seeds) <= set(by_seed))
        if len(rates) < LEAST_RATES:
            continue
        if not any(isfinite(by_rate[lr][seed].loss) for lr in rates for seed in scale.seeds):
            continue
        losses = tuple(tuple(by_rate[lr][seed].loss for seed in scale.seeds) for lr in rates)
        first = [by_rate[rates[0]][seed].initial_loss for seed in scale.seeds]
        curves[key] = Curve(tuple(rates), losses, sum(first) / len(first))
    return curves
