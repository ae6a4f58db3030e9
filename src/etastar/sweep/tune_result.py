"""What tuning from small networks came to: the plan, what it cost, what more would cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

from etastar.formatting import Shown, interval, number, percent
from etastar.sweep.recipe import Size, format_size
from etastar.sweep.result import Progress, SweepResult
from etastar.transfer import TransferPlan

if TYPE_CHECKING:
    from rich.console import RenderableType


StopReason = Literal["precise", "budget", "no further size"]
"""The interval is narrow enough; the next size would pass the budget; all bases are tuned."""


@dataclass(frozen=True)
class TuneProgress:
    """Where tuning stands, after every run.

    Attributes:
        sweep: The size that is being searched.
        cost: Spent on all sizes, as a share of one target run.
        expected: Cost in all, should every size be needed that fits the budget; a rough guess.
    """

    sweep: Progress
    cost: float
    expected: float


@dataclass(frozen=True)
class FurtherSize:
    """What it would take to know more.

    Attributes:
        size: The next size to tune.
        cost: Of its sweep, as a share of one target run; a guess from the sizes before.
        factor: From the target's rate to the end of its interval as expected then: that of the plan
            with this size tuned to the rate that is expected there, as precisely as those before;
            None where the law states no interval.
    """

    size: Size
    cost: float
    factor: float | None


@dataclass(frozen=True)
class TuneResult(Shown):
    """A plan for the target, and how it was come to.

    Attributes:
        plan: From all sizes that have an optimum to the target.
        sweep: Runs and optimum of every tuned size.
        target: Size of the target.
        cost: Training compute of the sweep (steps x parameters x examples) as a share of one run of
            the target.
        stop: Why no further size was tuned.
        precision: Factor from the rate to the end of its interval that was asked for.
        budget: Cost that was allowed.
        further: What it would take to know more; None where no size is left below the target.
    """

    plan: TransferPlan
    sweep: SweepResult
    target: Size
    cost: float
    stop: StopReason
    precision: float
    budget: float
    further: FurtherSize | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% predictive interval of `plan.lr`; None where the law states none."""
        return self.plan.lr_interval

    @property
    def factor(self) -> float | None:
        """How many times too high or low the rate may be, by its interval; None without one."""
        return None if self.interval is None else reach(self.interval)

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        rate = f"{format_size(self.target)}: lr {number(self.plan.lr)}"
        if self.interval is not None:
            rate += f", expected within {interval(*self.interval)}"
        return Group(
            self.sweep.__rich__(),
            self.plan.__rich__(),
            Text(rate, style="bold"),
            *map(Text, filter(None, (self._cost_line(), self._further_line()))),
        )

    def _cost_line(self) -> str:
        why = {
            "precise": f"the rate is known within a factor of {self.precision:g}",
            "budget": f"the next size would pass {percent(self.budget)}",
            "no further size": "all sizes given are tuned",
        }[self.stop]
        return f"cost {percent(self.cost)} of one target run; stopped: {why}"

    def _further_line(self) -> str:
        if self.further is None:
            return ""
        line = f"to know more: {format_size(self.further.size)}, about {percent(self.further.cost)}"
        now = self.factor
        if now is None or self.further.factor is None:
            return line
        return f"{line} more; factor {now:.3g} expected to become {self.further.factor:.3g}"

    def as_dict(self) -> dict[str, Any]:
        """The plan, its interval, the optima, the cost and what more would cost, for JSON."""
        further = self.further
        return {
            "plan": self.plan.as_dict(),
            "interval": None if self.interval is None else list(self.interval),
            "factor": self.factor,
            "target": dict(self.target),
            "cost": self.cost,
            "steps": self.sweep.steps,
            "stop": self.stop,
            "precision": self.precision,
            "budget": self.budget,
            "optima": [size.as_dict() for size in self.sweep.sizes],
            "further": further and {**asdict(further), "size": dict(further.size)},
        }


def reach(ends: tuple[float, float]) -> float:
    """From the middle of an interval to its end, as a factor: sqrt(high / low)."""
    return sqrt(ends[1] / ends[0])
