"""eta* over one size with the power law through it, from whatever measured or tuned it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, nan
from typing import Any

from etastar.fit import Optimum, PowerLawFit, fit_power_law
from etastar.formatting import interval, number
from etastar.report.charts import GREY, Axis, Chart, Look, Series

Ends = tuple[float, float]
_Z = 1.96  # of a normal distribution, 97.5%


@dataclass(frozen=True)
class RatePoint:
    """A rate at one size, with its 95% interval."""

    x: float
    lr: float
    ends: Ends | None = None


@dataclass(frozen=True)
class PowerLine:
    """log eta* = height + exponent (log x - centre); the band holds the exponent's interval."""

    centre: float
    height: float
    exponent: float
    ends: Ends | None

    @classmethod
    def of_fit(cls, fit: PowerLawFit) -> PowerLine:
        """The line of a fit, which turns about the weighted mean of its points."""
        centre = sum(w * log(x) for w, x in zip(fit.weights, fit.sizes, strict=True))
        height = fit.intercept + fit.exponent * centre
        return cls(centre, height, fit.exponent, fit.exponent_interval)

    def at(self, x: float, exponent: float | None = None) -> float:
        """The rate at a size, by this or another exponent."""
        slope = self.exponent if exponent is None else exponent
        return exp(self.height + slope * (log(x) - self.centre))

    def __str__(self) -> str:
        ends = "" if self.ends is None else f" (95% {self.ends[0]:.3f} to {self.ends[1]:.3f})"
        return f"exponent {self.exponent:.3f}{ends}"


def varied_name(sizes: Sequence[Mapping[str, int]]) -> str | None:
    """The setting that rates are drawn over: depth where it varies, else the first that does."""
    names = [name for name in sizes[0] if len({size.get(name) for size in sizes}) > 1]
    return "depth" if "depth" in names else next(iter(names), None)


def rate_points(optima: Sequence[Mapping[str, Any]], over: str) -> list[RatePoint]:
    """The optima along one setting, the others as in the first size."""
    rest = {k: v for k, v in optima[0]["size"].items() if k != over}
    alone = [one for one in optima if {k: v for k, v in one["size"].items() if k != over} == rest]
    return [
        RatePoint(one["size"][over], one["lr"], one["interval"] and tuple(one["interval"]))
        for one in alone
        if one["lr"] is not None
    ]


def tuned_line(points: Sequence[RatePoint]) -> PowerLine | None:
    """`fit_power_law` of tuned rates, weighted by their intervals; None of fewer than two sizes."""
    if len({point.x for point in points}) < 2:
        return None
    known = [
        Optimum(one.lr, nan, one.lr, "lowest point", False, 1, 0, interval=one.ends)
        for one in points
    ]
    return PowerLine.of_fit(fit_power_law([point.x for point in points], known))


def rate_chart(
    over: str,
    points: Sequence[RatePoint],
    line: PowerLine | None,
    *,
    target: RatePoint | None = None,
    prior: Sequence[float] | None = None,
) -> Chart:
    """eta* over a size, with its line and the band of its exponent, on logarithmic axes.

    `target` is the rate that a plan gives, with its predictive interval; `prior` the mean and
    standard deviation of the exponent that the default choice expects, drawn from the first size.
    """
    xs = sorted({p.x for p in (*points, *([target] if target else []))})
    series: list[Series] = []
    if prior is not None and xs[0] > 0 and len(xs) > 1:
        first, (mean, sd) = min(points, key=lambda point: point.x), prior
        ends = mean - _Z * sd, mean + _Z * sd
        expected = PowerLine(log(first.x), log(first.lr), mean, ends)
        series += _line_series(expected, xs, color=2, names=("prior of the default choice", ""))
    series += [] if line is None else _line_series(line, xs)
    series.append(_marks("optimum, 95% interval", points, color=0))
    if target is not None:
        series.append(_marks("planned for the target", [target], color=1))
    x = Axis(over, log=all(x > 0 for x in xs))
    return Chart(f"optimal learning rate over {over}", x, Axis("learning rate", True), (*series,))


def _line_series(
    line: PowerLine,
    xs: Sequence[float],
    *,
    color: int = GREY,
    names: tuple[str, str] = ("", "95% of the exponent"),
) -> list[Series]:
    """A line in front of its band; the first name stands before the exponent."""
    steps = _between(xs[0], xs[-1])
    look: Look = "dashes" if names[0] else "line"
    name = ": ".join(filter(None, (names[0], str(line))))
    drawn = Series(name, steps, tuple(map(line.at, steps)), look, color)
    if line.ends is None:
        return [drawn]
    edges = [sorted(line.at(x, end) for end in line.ends) for x in steps]
    band = tuple((low, high) for low, high in edges)
    return [Series(names[1], steps, (), "band", color, y_ends=band), drawn]


def _between(low: float, high: float, num: int = 24) -> tuple[float, ...]:
    return tuple(low * (high / low) ** (k / num) for k in range(num + 1))


def _marks(name: str, points: Sequence[RatePoint], color: int) -> Series:
    return Series(
        name,
        tuple(p.x for p in points),
        tuple(p.lr for p in points),
        "points",
        color,
        y_ends=tuple(p.ends for p in points),
        labels=tuple(_label(p) for p in points),
    )


def _label(point: RatePoint) -> str:
    within = "" if point.ends is None else f", {interval(*point.ends)}"
    return f"{number(point.x)}: {number(point.lr)}{within}"
