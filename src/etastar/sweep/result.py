"""What a sweep came to: every run, and the optimum of each size."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from etastar.formatting import Shown, interval, json_numbers, number
from etastar.sweep.recipe import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from etastar.fit import Optimum
    from etastar.sweep.recipe import Size
    from etastar.sweep.trial import TrialRecord

__all__ = ["STOPPED", "SizeResult", "SweepResult"]

STOPPED: Final = "stopped: by --run-timeout, without a loss; the search takes it for +inf"
"""Legend of tables with such runs."""


@dataclass(frozen=True)
class SizeResult(Shown):
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

    def __rich__(self) -> Table:
        return _table((self,))

    def as_dict(self) -> dict[str, Any]:
        """Optimum, interval, flags and cost as JSON-safe values."""
        optimum = self.optimum
        return {
            "size": dict(self.size),
            "lr": None if optimum is None else optimum.lr,
            "interval": (
                None if optimum is None or not optimum.interval else list(optimum.interval)
            ),
            "loss": None if optimum is None else optimum.loss,
            "method": None if optimum is None else optimum.method,
            "num_seeds": 0 if optimum is None else optimum.num_seeds,
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
        return _table(self.sizes)

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


def _table(sizes: Sequence[SizeResult]) -> Table:
    from rich.table import Table

    steps = sum(size.steps for size in sizes)
    title = f"optima, {steps:,} steps in all"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("size", overflow="fold")
    for heading in ("lr", "95% interval", "loss", "runs", "steps"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("flags")
    for size in sizes:
        table.add_row(*_shown(size))
    table.caption = STOPPED if any(size.num_stopped for size in sizes) else None
    return table


def _shown(size: SizeResult) -> tuple[str, ...]:
    """A size's row of the table."""
    best = size.optimum
    numbers = ("-", "-", "-")
    if best is not None:
        spread = "one seed" if best.interval is None else interval(*best.interval)
        numbers = (number(best.lr), spread, f"{best.loss:.4g}")
    counts = (str(len(size.trials)), f"{size.steps:,}")
    return (format_size(size.size), *numbers, *counts, ", ".join(size.flags))
