"""The derivative of the pre-activations in forward mode, and the finite step with S = c."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from etastar.errors import MeasureError
from etastar.measure.differences import by_differences, or_infinite, seed_update
from etastar.measure.passes import moved_along
from etastar.measure.pre_activations import run_with_tangents, wanted_nodes
from etastar.measure.records import SeedUpdate

if TYPE_CHECKING:
    from torch import nn

    from etastar.measure.batch import Examples
    from etastar.measure.optimizers import Direction
    from etastar.measure.passes import Passes
    from etastar.measure.records import PreActivations
    from etastar.measure.subject import Subject

__all__ = ["by_bisection", "by_forward_mode"]

Seeded = Callable[[], None]

_GRID = tuple(2.0**power for power in range(-5, 7))  # around the first-order rate
_BISECTIONS = 7  # of a factor 2: to half a percent


def by_forward_mode(
    model: nn.Module,
    examples: Examples,
    direction: Direction,
    pre_activations: PreActivations,
    *,
    seeded: Seeded,
) -> SeedUpdate:
    """M_l = mean (dz_l / d eta)^2 along the direction, in forward mode.

    Args:
        model: The model; left as it is.
        examples: The probe.
        direction: Of the step.
        pre_activations: Which count.
        seeded: Sets the random numbers of a pass.

    Returns:
        The measurement.

    Raises:
        CaptureError: An operation has no forward mode.
    """
    traced, tangents, values = run_with_tangents(
        model, examples, pre_activations, direction.updates, seeded=seeded
    )
    nodes = wanted_nodes(traced, pre_activations).nodes
    return seed_update(nodes, tangents, values, method="forward")


def by_bisection(subject: Subject, passes: Passes, direction: Direction, *, c: float) -> SeedUpdate:
    """The largest eta whose finite step theta + eta u changes the pre-activations by c at most.

    S(eta) is looked at on a grid of factors of 2 around the first-order rate; between the last rate
    on it that keeps S <= c and the next, eta is found by bisection.

    Args:
        subject: The model; left as it is.
        passes: Of the probe.
        direction: Of the step.
        c: Allowed mean-square change.

    Returns:
        The measurement: S_l(eta) / eta^2 at that eta, so that c / M is eta^2.

    Raises:
        MeasureError: No rate of the grid keeps S <= c, or all do.
    """
    linear = by_differences(subject, passes, direction)
    centre = math.sqrt(c / linear.mean_square) if linear.mean_square else math.inf
    if not math.isfinite(centre):
        raise MeasureError("a step that changes nothing", "a step that does", "check the gradients")
    before = passes.kept()
    with moved_along(subject.model, direction.updates, subject.origin) as move_to:

        def changes(eta: float) -> list[float]:
            move_to(eta)
            found, _ = passes.compared(dict(before))
            return [or_infinite(found[node.index]) for node in passes.nodes]

        def within(eta: float) -> bool:
            found = changes(eta)
            return math.fsum(found) / len(found) <= c

        eta = _largest(within, centre)
        mean_squares = tuple(change / eta**2 for change in changes(eta))
    return SeedUpdate(
        places=linear.places,
        mean_squares=mean_squares,
        second_moments=linear.second_moments,
        method="exact",
    )


def _largest(within: Callable[[float], bool], centre: float) -> float:
    """The upper end of the last stretch of a grid that is within bounds, by bisection."""
    inside = [within(centre * factor) for factor in _GRID]
    last = max((i for i, ok in enumerate(inside) if ok), default=None)
    if last is None or last == len(_GRID) - 1:
        raise MeasureError(
            f"a step that is within bounds at {sum(inside)} of {len(_GRID)} rates around the "
            "first-order one",
            "a rate at which the change of the pre-activations passes c",
            "measure to first order, method='forward'",
        )
    low, high = centre * _GRID[last], centre * _GRID[last + 1]
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if within(middle) else (low, middle)
    return low
