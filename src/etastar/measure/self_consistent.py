"""The criterion after steps whose rate is the one that the criterion then gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etastar.measure.records import UpdateReport

__all__ = ["fixed_point"]

_TOLERANCE = 0.05  # of log eta
_MAX_ROUNDS = 10
_DIVERGED = 0.25  # factor on the rate after steps that led to infinite updates


def fixed_point(
    report_at: Callable[[float | None], UpdateReport], *, kappa: float, start: UpdateReport
) -> UpdateReport:
    """Solve eta = eta*(kappa eta), eta*(lr) the criterion after steps at lr, to 5%.

    The criterion falls as the rate of the steps rises. So a rate below its own criterion is below
    the solution, and one above it is above: the next rate is between the two once there are both,
    and before the geometric mean of the rate and its criterion.

    Args:
        report_at: The criterion after steps at a given rate.
        kappa: Rate of the steps over the criterion's.
        start: The criterion at initialization.

    Returns:
        The last report, with the number of rounds, whether they converged, and all their cost.

    Source: docs/definitions.md, section 6.
    """
    eta, low, high = start.eta_star, 0.0, math.inf
    cost = start.cost_steps
    rounds = 0
    while True:
        report = report_at(kappa * eta)
        rounds += 1
        cost += report.cost_steps
        found = report.eta_star
        converged = found > 0 and abs(math.log(found / eta)) < _TOLERANCE
        if converged or rounds == _MAX_ROUNDS:
            return replace(report, rounds=rounds, converged=converged, cost_steps=cost)
        low, high = (eta, high) if found > eta else (low, eta)
        eta = _between(low, high, eta, found)


def _between(low: float, high: float, eta: float, found: float) -> float:
    if low > 0 and math.isfinite(high):
        return math.sqrt(low * high)
    return math.sqrt(eta * found) if found > 0 and math.isfinite(found) else eta * _DIVERGED
