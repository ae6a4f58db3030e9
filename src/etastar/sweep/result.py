"""What a sweep came to: every run, the optimum of each size, and how far a search is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from etastar.fit import Optimum, find_optimum
from etastar.formatting import Shown, json_numbers, number, seeds_interval
from etastar.sweep.recipe import Size, format_size
from etastar.sweep.trial import TrialRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table


STOPPED: Final = "stopped: by --run-timeout, without a loss; the search takes it for +inf"
"""Legend of tables with such runs."""


@dataclass(frozen=True)
class SizeResult:
    """The runs of one size.

    Attributes:
        size: Size of the network.
        trials: Its runs, sorted by point.
        optimum: Where the loss is lowest; None when of every rate a run diverged or was stopped.
    """

    size: Size
    trials: tuple[TrialRecord, ...]
    optimum: Optimum | None

    @property
    def steps(self) -> int:
        """Optimizer steps spent on this size."""
        return sum(trial.steps for trial in self.trials)

    @property
    def num_diverged(self) -> int:
        """Runs that diverged."""
        return sum(trial.diverged for trial in self.trials)

    @property
    def num_stopped(self) -> int:
        """Runs that their time limit ended: they have no loss, and count as +inf."""
        return sum(bool(trial.failed) for trial in self.trials)

    @property
    def flags(self) -> tuple[str, ...]:
        """What makes the optimum less trustworthy.

        "edge": it lies at the edge of the range, and the range is to be extended; "diverged": some
        run did; "stopped": the time limit ended some run; "no optimum": every rate has a run that
        diverged or was stopped.
        """
        raised = {
            "edge": self.optimum is not None and self.optimum.at_edge,
            "diverged": self.num_diverged > 0,
            "stopped": self.num_stopped > 0,
            "no optimum": self.optimum is None,
        }
        return tuple(flag for flag, is_raised in raised.items() if is_raised)

    def as_dict(self) -> dict[str, Any]:
        """Optimum, interval, flags and cost as JSON-safe values."""
        names = ("lr", "interval", "loss", "method")
        return {
            "size": dict(self.size),
            **{name: json_numbers(getattr(self.optimum, name, None)) for name in names},
            "num_seeds": getattr(self.optimum, "num_seeds", 0),
            "num_trials": len(self.trials),
            "num_diverged": self.num_diverged,
            "num_stopped": self.num_stopped,
            "flags": list(self.flags),
            "steps": self.steps,
        }


@dataclass(frozen=True)
class SweepResult(Shown):
    """A sweep that is done.

    Attributes:
        sizes: Runs and optimum of each size, in the order of the sweep.
        settings: What tells the recipe from another.
        search: Name of the search, and its options as (name, value) pairs.

    Shown (`print(result)`), it is the optimum of every size, with its flags and its cost.

    Example:
        >>> from etastar.sweep.recipe import Point
        >>> from etastar.sweep.trial import TrialRecord
        >>> trial = TrialRecord((("depth", 3),), Point(0.1, 0), 0.5, (0.5,), False, 1, 1.0)
        >>> result = SweepResult((SizeResult(trial.size, (trial,), None),))
        >>> result.steps, result.as_dict()["trials"][0]["lr"]
        (1, 0.1)
    """

    sizes: tuple[SizeResult, ...]
    settings: tuple[tuple[str, str], ...] = ()
    search: tuple[tuple[str, float | int | str], ...] = ()

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """All runs, size by size."""
        return tuple(trial for size in self.sizes for trial in size.trials)

    @property
    def optima(self) -> dict[Size, Optimum | None]:
        """Optimum of each size; None where it has none."""
        return {size.size: size.optimum for size in self.sizes}

    @property
    def steps(self) -> int:
        """Optimizer steps spent on all sizes."""
        return sum(size.steps for size in self.sizes)

    def __rich__(self) -> Table:
        from rich.table import Table

        title = f"optima, {self.steps:,} steps in all"
        table = Table(title=title, title_justify="left", caption_justify="left")
        table.add_column("size", overflow="fold")
        for heading in ("lr", "95% interval", "loss", "runs", "steps"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("flags")
        for size in self.sizes:
            table.add_row(*_shown(size))
        table.caption = STOPPED if any(size.num_stopped for size in self.sizes) else None
        return table

    def as_dict(self) -> dict[str, Any]:
        """The whole result as JSON-safe values.

        A number that is not finite is None; whether a run's loss is a number says `finite`.
        """
        return {
            "settings": dict(self.settings),
            "search": dict(self.search),
            "steps": self.steps,
            "optima": [size.as_dict() for size in self.sizes],
            "trials": [
                {
                    "size": dict(trial.size),
                    "lr": trial.point.lr,
                    "seed": trial.point.seed,
                    "loss": json_numbers(trial.loss),
                    "finite": isfinite(trial.loss),
                    "diverged": trial.diverged,
                    **({"failed": trial.failed} if trial.failed else {}),
                    "steps": trial.steps,
                    "initial_loss": json_numbers(trial.initial_loss),
                    "device": trial.device,
                    "versions": dict(trial.versions),
                    "losses": json_numbers(trial.losses),
                }
                for trial in self.trials
            ],
        }


def _shown(size: SizeResult) -> tuple[str, ...]:
    """A size's row of the table."""
    best = size.optimum
    numbers = ("-", "-", "-")
    if best is not None:
        spread = seeds_interval(best.interval)
        numbers = (number(best.lr), spread, f"{best.loss:.4g}")
    counts = (str(len(size.trials)), f"{size.steps:,}")
    return (format_size(size.size), *numbers, *counts, ", ".join(size.flags))


def size_optimum(records: Sequence[TrialRecord]) -> Optimum | None:
    """The optimum of one size by `find_optimum`, on all its runs.

    None without runs, or when every rate has a run that diverged or was stopped.

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
    infinite = sum(not isfinite(record.loss) for record in records)
    found = find_optimum(lrs, losses)
    return replace(found, num_diverged=infinite - stopped, num_stopped=stopped)


def loss_table(records: Sequence[TrialRecord]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses by rate and seed; a seed that a rate lacks is filled in from the others.

    A missing loss is l(r, s) = mean over the seeds t that r has of (l(r, t) - b_t) + b_s, b_s being
    how much seed s lies above the mean of all seeds over the rates that have every seed. A rate
    with few seeds then stands where it would with all of them, and the lucky draw of a seed that
    only the best rates were given does not bend the curve. A rate of which a run diverged or was
    stopped stays at +inf. Seeds that share no finite rate with the seed that has most rates cannot
    be compared and are left out.

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
    """The state of the size that is being searched; as text, between which rates its optimum is.

    Attributes:
        size: Size of the network.
        records: Runs that are finished.
        done: Whether the search has ended.
        waiting: For whose run, where other processes have all that is wanted; "" otherwise.

    Example:
        >>> from etastar.sweep.recipe import Point
        >>> from etastar.sweep.trial import TrialRecord
        >>> size = (("depth", 2),)
        >>> runs = [(0.05, 0.7), (0.1, 0.5)]
        >>> records = [TrialRecord(size, Point(lr, 0), x, (x,), False, 1, 1.0) for lr, x in runs]
        >>> print(Progress(size, tuple(records)))
        depth=2  0.05 to ?  lowest 0.5 at 0.1
    """

    size: Size
    records: tuple[TrialRecord, ...]
    done: bool = False
    waiting: str = ""

    @property
    def steps(self) -> int:
        """Optimizer steps spent on this size."""
        return sum(record.steps for record in self.records)

    def __str__(self) -> str:
        lrs, losses = loss_table(self.records)
        means = losses.mean(1) if len(lrs) else losses
        if not np.isfinite(means).any():
            return f"{format_size(self.size)}  ? to ?"
        place = int(np.argmin(means))
        around = (place - 1, place + 1)
        low, high = (number(lrs[k]) if 0 <= k < len(lrs) else "?" for k in around)
        lowest = f"lowest {means[place]:.4g} at {number(lrs[place])}"
        return f"{format_size(self.size)}  {low} to {high}  {lowest}"
