"""The optimum of a size with few runs: start where the law predicts, enclose, refine, repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from math import ceil, exp, inf, isfinite, log, log2
from typing import Any, Final, NamedTuple

import numpy as np

from etastar.errors import TrialError
from etastar.fit import find_optimum, power_law_posterior
from etastar.fit.bootstrap import widened_interval
from etastar.fit.optimum import parabola_vertex
from etastar.sweep.recipe import Point, Size
from etastar.sweep.search.base import Context, Search
from etastar.sweep.trial import TrialRecord
from etastar.typed import set_numbers

_UNLEARNING = 1.25
"""A run whose last losses exceed its first by this factor learned nothing; empirical, coarse."""

_PRIOR: Final[dict[str, float]] = {"prior_exponent": -1.5, "prior_sd": 1.0}
"""Of the law by which one optimum predicts the next: optima of a single depth give the prior's
exponent, depths far apart their own."""

_REACH = 1e4
"""Furthest rate from the first one, either way, as a ratio."""

_NUM_RESAMPLES = 200
"""Enough to tell whether an interval is narrow; the optimum that is reported has its own."""


@dataclass(frozen=True)
class Bracket(Search):
    """Few runs, where the minimum is.

    Rates lie on a lattice, start * factor^k. The start is what a power law through the optima of
    the sizes done before predicts; where there are none, what is given, or else the rate that the
    maximal-update criterion allows before training (`measured_start`). With the first seed alone,
    the search walks downhill in steps that double until both neighbours of the lowest rate are
    higher (a diverged one is), then brings the neighbours near: where the local parabola in log lr
    has its minimum next, down to one factor; a diverged neighbour, which no parabola can use, down
    to the precision. Then the three rates that define the optimum are run with one further seed
    after the other, moving on should their mean ask for it, until the optimum's log lr is known to
    the precision or the seeds end, by the smoothed bootstrap over seeds of `find_optimum` on these
    three rates: more seeds do not lessen the grid's part of the optimum's interval, which the
    report has.
    Asking after every seed costs some of the confidence: where one run's noise is two thirds of
    the rise to the neighbours, the optimum lies within the precision in 92% of cases, not 95%
    (empirical, on parabolas; 95% or more at a quarter).

    Args:
        start: Learning rate of the first two runs (the other is start * factor) when no size has
            been done; None to have it measured, which costs about two steps per seed.
        factor: Ratio of neighbouring rates at the end.
        precision: Half-width of the 95% interval of log lr over seeds that is enough.
        max_trials: Most runs of one size; the search may end there with the optimum not enclosed.

    Raises:
        TrialError: A setting is out of range.

    Example:
        >>> from etastar.sweep.search.base import Context
        >>> context = Context((("depth", 2),), seeds=(0, 1), optima=())
        >>> Bracket(0.1, factor=2.0).propose((), context)
        (Point(lr=0.1, seed=0), Point(lr=0.2, seed=0))
    """

    start: float | None = None
    factor: float = 1.6
    precision: float = 0.15
    max_trials: int = 40

    name = "bracket"

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {"error": TrialError, "owner": "a bracket"}
        start = () if self.start is None else ("start",)
        set_numbers(self, *start, "precision", above=0, **checked)
        set_numbers(self, "max_trials", least=3, whole=True, **checked)  # a minimum is enclosed
        set_numbers(self, "factor", above=1, **checked)

    @property
    def options(self) -> dict[str, float | int | str]:
        """All settings; a start that is to be measured as "measured"."""
        return {**asdict(self), "start": "measured" if self.start is None else self.start}

    @property
    def needs_start(self) -> bool:
        """Unless it is given."""
        return self.start is None

    def propose(self, finished: Sequence[TrialRecord], context: Context) -> tuple[Point, ...]:
        """The next run, or those of the next seed; see `Search.propose`."""
        room = self.max_trials - len({record.point for record in finished})
        runs = _Runs(finished, context.seeds, self._first_lr(context), self._unit)
        wanted = self._wanted(runs)
        # half a seed would say nothing
        return tuple(wanted) if len(wanted) <= room else ()

    def _first_lr(self, context: Context) -> float:
        """What a power law through the optima found so far gives at this depth, else the start.

        Optima at the edge of their range are used only if there are no others. Without a depth the
        last optimum's rate is taken as it is.
        """
        if not context.optima:
            start = context.start if self.start is None else self.start
            assert start is not None, "what asks for a start has one measured"
            return start
        optima = [done for done in context.optima if not done[1].at_edge] or list(context.optima)
        depth = _depth_of(context.size, context)
        known = [(_depth_of(size, context), optimum.lr) for size, optimum in optima]
        points = [(at, lr) for at, lr in known if at is not None]
        if depth is None or not points:
            return optima[-1][1].lr
        depths, lrs = zip(*points, strict=True)
        return power_law_posterior(depths, lrs, **_PRIOR).predict(depth)

    @cached_property
    def _unit(self) -> float:
        """Distance of neighbouring positions in log lr."""
        return log(self.factor) / self._gap

    @cached_property
    def _gap(self) -> int:
        """Positions in one factor, which is halved down to the precision."""
        return int(2 ** max(0, ceil(log2(log(self.factor) / self.precision))))

    def _wanted(self, runs: _Runs) -> list[Point]:
        """What the first number of seeds that is not finished with asks for.

        The search is gone through again from its start, each number of seeds with the positions
        that it asked for itself. So a run that a later number of seeds added changes nothing
        before it, and a proposal of which a part has been run is followed by its rest.
        """
        asked: tuple[int, ...] = (0, self._gap)
        for num_seeds in range(1, len(runs.seeds) + 1):
            found = self._walk(runs, asked, num_seeds)
            if not isinstance(found, Triple):
                return found
            enclosed = found.left < found.centre < found.right
            if not enclosed or self._is_precise(runs, found, num_seeds):
                return []
            asked = found
        return []

    def _walk(self, runs: _Runs, asked: tuple[int, ...], num_seeds: int) -> list[Point] | Triple:
        """The missing runs of one number of seeds, or where its minimum is."""
        limit = max(self._gap, int(log(_REACH) / self._unit))
        growth = 2 if num_seeds == 1 else 1  # the mean of more seeds has moved a little at most
        while not (missing := runs.missing(asked, num_seeds)):
            values = runs.values(asked, num_seeds)
            found = next_position(values, gap=self._gap, limit=limit, growth=growth)
            if isinstance(found, Triple):
                return found
            asked = (*asked, found)
        return missing

    def _is_precise(self, runs: _Runs, triple: Triple, num_seeds: int) -> bool:
        """Whether the optimum is known well enough; one seed cannot tell."""
        if num_seeds == 1:
            return False
        losses = tuple(tuple(runs.losses(k, num_seeds)) for k in triple)
        offsets = tuple(self._unit * (k - triple.centre) for k in triple)
        return _half_width(offsets, losses) <= self.precision


def _depth_of(size: Size, context: Context) -> float | None:
    """Effective depth of a size if the context has it, else its "depth"; None if not positive."""
    depth = dict(context.depths).get(size, dict(size).get("depth"))
    return float(depth) if depth is not None and depth > 0 else None


@lru_cache(maxsize=1024)  # a search is gone through again for every proposal
def _half_width(log_lrs: tuple[float, ...], losses: tuple[tuple[float, ...], ...]) -> float:
    """Half the width of the seeds' interval of the optimum's log lr; 0 where none can be had."""
    table = np.array(losses)
    if not np.isfinite(table).all(1).any():
        return 0.0
    # over the largest, which moves no minimum and lets no sum overflow
    table /= np.abs(table[np.isfinite(table)]).max(initial=0.0) or 1.0
    optimum = find_optimum(np.exp(log_lrs), table, num_resamples=_NUM_RESAMPLES)
    freedom = (int(np.isfinite(table).all(1).sum()) - 1) * (table.shape[1] - 1)
    resampled = np.log(optimum.resampled_lrs)
    low, high = widened_interval(resampled - log(optimum.lr), freedom=freedom)
    return (min(log_lrs[-1], log(optimum.lr) + high) - max(log_lrs[0], log(optimum.lr) + low)) / 2


class _Runs:
    """Finished runs by seed and position: `unit` apart in log lr, from `first`, which is at 0."""

    def __init__(
        self, finished: Sequence[TrialRecord], seeds: tuple[int, ...], first: float, unit: float
    ) -> None:
        self.seeds = seeds
        self._first = first
        self._unit = unit
        self._by_point = {record.point: record for record in finished}

    def _point(self, position: int, seed: int) -> Point:
        """Six digits are finer than any optimum, and the same on every machine."""
        return Point(float(f"{self._first * exp(self._unit * position):.6g}"), seed)

    def missing(self, positions: tuple[int, ...], num_seeds: int) -> list[Point]:
        """Points at these positions, with this many seeds, that have not been run."""
        points = [self._point(k, seed) for seed in self.seeds[:num_seeds] for k in positions]
        return [point for point in dict.fromkeys(points) if point not in self._by_point]

    def losses(self, position: int, num_seeds: int) -> list[float]:
        """Losses of the first seeds, +inf where they are not finite."""
        points = [self._point(position, seed) for seed in self.seeds[:num_seeds]]
        losses = [self._by_point[point].loss for point in points]
        return [loss if isfinite(loss) else inf for loss in losses]

    def values(self, positions: tuple[int, ...], num_seeds: int) -> dict[int, float]:
        """Mean losses over the first seeds, all of which have been run.

        While no run has learned anything, all count as +inf: there the loss need not fall towards
        the minimum, and the way to it is down.
        """
        points = [self._point(k, seed) for k in positions for seed in self.seeds[:num_seeds]]
        if all(_unlearned(self._by_point[point]) for point in points):
            return dict.fromkeys(positions, inf)
        return {k: sum(self.losses(k, num_seeds)) / num_seeds for k in positions}


def _unlearned(record: TrialRecord) -> bool:
    """Whether a run diverged, or its losses at the end were above the first one's by much."""
    if not isfinite(record.loss) or not record.losses:
        return not isfinite(record.loss)
    last = record.losses[-max(1, len(record.losses) // 4) :]
    return sum(last) / len(last) > _UNLEARNING * abs(record.initial_loss)


class Triple(NamedTuple):
    """The lowest position of a curve and its nearest evaluated neighbours."""

    left: int
    centre: int
    right: int


def next_position(
    values: Mapping[int, float], *, gap: int, limit: int, growth: int = 2
) -> int | Triple:
    """Where to look next for the minimum of a curve on the integers, or what encloses it.

    At the lower end of what is known, and at the upper end, the next position is further out, each
    step `growth` times the last, up to `limit` either way. Inside, the neighbours of the lowest
    position are brought to a distance of `gap`, at the side where the parabola through them has its
    minimum; a neighbour that is not finite is brought nearer still, by halving, to a distance of
    one. Equal values count as lower to the left, so that a curve that is +inf throughout is
    followed downwards.

    What is not finite counts as +inf. At the limit a triple has its centre at one end.

    Example:
        >>> next_position({0: 2.0, 1: 1.0}, gap=1, limit=100)
        2
        >>> next_position({0: 2.0, 1: 1.0, 2: 1.5}, gap=1, limit=100)
        Triple(left=0, centre=1, right=2)
    """
    heights = {k: v if isfinite(v) else inf for k, v in values.items()}
    known = sorted(heights)
    centre = min(known, key=heights.__getitem__)
    if known[0] < centre < known[-1]:
        place = known.index(centre)
        triple = Triple(known[place - 1], centre, known[place + 1])
        inner = _further_in(triple, heights, gap)
        return triple if inner is None else inner
    inner = known[1] if centre == known[0] else known[-2]
    sign = 1 if centre > inner else -1
    # the first two points are one step; only a later one has been stretched
    stretch = 1 if len(known) == 2 else growth
    step = max(gap, min(stretch * abs(centre - inner), 2 * limit))
    outer = sign * min(sign * centre + step, limit)
    if outer != centre:
        return outer
    near = gap if isfinite(heights[inner]) else 1
    if isfinite(heights[centre]) and abs(inner - centre) > near:
        return (centre + inner) // 2  # nearer to the limit from inside, while that tells anything
    return Triple(min(inner, centre), centre, max(inner, centre))


def _further_in(triple: Triple, heights: Mapping[int, float], gap: int) -> int | None:
    """A position between the lowest and one of its neighbours; None when both are near enough."""
    centre = triple.centre
    away = {-1: centre - triple.left, 1: triple.right - centre}
    left, right = (heights[k] - heights[centre] for k in (triple.left, triple.right))
    near = {-1: gap if isfinite(left) else 1, 1: gap if isfinite(right) else 1}
    wide = {side: distance for side, distance in away.items() if distance > near[side]}
    if not wide:
        return None
    vertex = None
    if isfinite(left) and isfinite(right):
        x = np.array([-away[-1], 0.0, away[1]])
        vertex = parabola_vertex(x, np.array([left, 0.0, right]))
    if vertex is None:
        side = max(wide, key=lambda side: (wide[side], side))
        return centre + side * (wide[side] // 2)
    towards = 1 if vertex[0] > 0 else -1
    steps = (round(vertex[0] / gap) or towards) if towards in wide else -towards
    return centre + steps * gap
