"""The runs of one size: their losses as a table, the optimum, and how far the search is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from etastar.fit import Optimum, find_optimum
from etastar.formatting import number
from etastar.sweep.recipe import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from etastar.sweep.recipe import Size
    from etastar.sweep.trial import TrialRecord

__all__ = ["Progress", "log_lr_sd", "loss_table", "size_optimum"]


def size_optimum(records: Sequence[TrialRecord]) -> Optimum | None:
    """The optimum of one size by `find_optimum`, on all its runs.

    Args:
        records: Finished runs of one size, in any order.

    Returns:
        The optimum; None without runs, or when every rate has a run that diverged or was stopped.

    Example:
        >>> from etastar.sweep.trial import TrialRecord
        >>> from etastar.sweep.recipe import Point
        >>> runs = [
        ...     TrialRecord((("depth", 3),), Point(lr, 0), loss, (loss,), False, 1, 1.0)
        ...     for lr, loss in [(0.1, 0.5), (1.0, 0.25), (10.0, 0.5)]
        ... ]
        >>> optimum = size_optimum(runs)
        >>> round(optimum.lr, 12), optimum.method, optimum.at_edge
        (1.0, 'quadratic', False)

    Source: docs/definitions.md, section 5.
    """
    if not records:
        return None
    lrs, losses = loss_table(records)
    if not np.isfinite(losses).all(1).any():
        return None
    stopped = sum(bool(record.failed) for record in records)
    infinite = sum(not np.isfinite(record.loss) for record in records)
    found = find_optimum(lrs, losses)
    return replace(found, num_diverged=infinite - stopped, num_stopped=stopped)


def log_lr_sd(optimum: Optimum) -> float | None:
    """Standard deviation of the logarithm of an optimal rate, by its 95% interval.

    Args:
        optimum: Of one size.

    Returns:
        Half the interval's width in log lr over 1.96; None without an interval.

    Example:
        >>> from math import exp, log
        >>> found = find_optimum([0.5, 1.0, 2.0], [[1.0, 1.1], [0.5, 0.7], [1.0, 1.2]])
        >>> low, high = found.interval
        >>> round(exp(2 * 1.959964 * log_lr_sd(found)) / (high / low), 5)
        1.0
    """
    if optimum.interval is None:
        return None
    low, high = optimum.interval
    return log(high / low) / (2 * NormalDist().inv_cdf(0.975))


def loss_table(
    records: Sequence[TrialRecord],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses by rate and seed; a seed that a rate lacks is filled in from the others.

    A missing loss is l(r, s) = mean over the seeds t that r has of (l(r, t) - b_t) + b_s, b_s being
    how much seed s lies above the mean of all seeds over the rates that have every seed. A rate
    with few seeds then stands where it would with all of them, and the lucky draw of a seed that
    only the best rates were given does not bend the curve. A rate of which a run diverged or was
    stopped stays at +inf. Seeds that share no finite rate with the seed that has most rates cannot
    be compared and are left out.

    Args:
        records: Finished runs of one size, one at least.

    Returns:
        Rates (num_lrs,) rising, and losses (num_lrs, num_seeds).

    Example:
        >>> from etastar.sweep.trial import TrialRecord
        >>> from etastar.sweep.recipe import Point
        >>> runs = [
        ...     TrialRecord((("depth", 3),), Point(lr, seed), loss, (loss,), False, 1, 1.0)
        ...     for lr, seed, loss in [(0.1, 0, 5.0), (1.0, 0, 2.0), (1.0, 1, 3.0)]
        ... ]
        >>> loss_table(runs)[1].tolist()
        [[5.0, 6.0], [2.0, 3.0]]
    """
    lrs = sorted({record.point.lr for record in records})
    seeds = sorted({record.point.seed for record in records})
    row, column = ({value: n for n, value in enumerate(values)} for values in (lrs, seeds))
    table = np.full((len(lrs), len(seeds)), np.nan)
    for record in records:
        loss = record.loss if np.isfinite(record.loss) and not record.diverged else np.inf
        table[row[record.point.lr], column[record.point.seed]] = loss
    table = table[:, _comparable(table)]
    kept = ~np.isnan(table).all(1)
    return np.array(lrs)[kept], _filled(table[kept])


def _comparable(table: NDArray[np.float64]) -> list[int]:
    """Columns that, together, have a rate at which all are finite; those with most rates first."""
    num_rates = (~np.isnan(table)).sum(0)
    columns: list[int] = []
    for column in np.argsort(-num_rates, kind="stable").tolist():
        if not columns or np.isfinite(table[:, [*columns, column]]).all(1).any():
            columns.append(column)
    return sorted(columns)


def _filled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    complete = np.isfinite(table).all(1)
    if not complete.any():
        return np.where(np.isnan(table), np.inf, table)
    offset = (table[complete] - table[complete].mean(1, keepdims=True)).mean(0)
    level = np.nanmean(table - offset, axis=1, keepdims=True)
    return np.where(np.isnan(table), level + offset, table)


@dataclass(frozen=True)
class Progress:
    """The state of the size that is being searched.

    Attributes:
        size: Size of the network.
        num_finished: Runs that are finished.
        steps: Optimizer steps spent on this size.
        lowest: Learning rate and mean loss of the lowest point so far; None without a finite one.
        bracket: The rates on either side of it; None where a side has none yet.
        done: Whether the search has ended.
        waiting: For whose run, where other processes have all that is wanted; "" otherwise.

    Example:
        >>> print(Progress((("depth", 2),), 3, 30, (0.1, 0.5), (0.05, None)))
        depth=2  0.05 to ?  lowest 0.5 at 0.1
    """

    size: Size
    num_finished: int
    steps: int
    lowest: tuple[float, float] | None
    bracket: tuple[float | None, float | None]
    done: bool = False
    waiting: str = ""

    @classmethod
    def of(
        cls, size: Size, records: Sequence[TrialRecord], *, done: bool = False, waiting: str = ""
    ) -> Progress:
        """The progress that finished runs show; see the attributes."""
        lowest, bracket = _lowest(records)
        steps = sum(record.steps for record in records)
        return cls(size, len(records), steps, lowest, bracket, done, waiting)

    def __str__(self) -> str:
        low, high = ("?" if end is None else number(end) for end in self.bracket)
        text = f"{format_size(self.size)}  {low} to {high}"
        if self.lowest is None:
            return text
        return f"{text}  lowest {self.lowest[1]:.4g} at {number(self.lowest[0])}"


def _lowest(
    records: Sequence[TrialRecord],
) -> tuple[tuple[float, float] | None, tuple[float | None, float | None]]:
    if not records:
        return None, (None, None)
    lrs, losses = loss_table(records)
    means = losses.mean(1)
    place = int(np.argmin(means))
    if not np.isfinite(means[place]):
        return None, (None, None)
    below = float(lrs[place - 1]) if place > 0 else None
    above = float(lrs[place + 1]) if place + 1 < len(lrs) else None
    return (float(lrs[place]), float(means[place])), (below, above)
