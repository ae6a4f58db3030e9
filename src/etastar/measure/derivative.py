"""Three ways to the mean-square update of the pre-activations along a direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from etastar.errors import MeasureError
from etastar.measure.passes import moved_along
from etastar.measure.pre_activations import mean_square, run_with_tangents, wanted_nodes
from etastar.measure.records import SeedUpdate

if TYPE_CHECKING:
    from torch import nn

    from etastar.graph.dag import Node
    from etastar.measure.batch import Examples
    from etastar.measure.optimizers import Direction
    from etastar.measure.passes import Passes
    from etastar.measure.records import Method, PreActivations
    from etastar.measure.subject import Subject

__all__ = ["by_bisection", "by_differences", "by_forward_mode"]

Seeded = Callable[[], None]

_FIRST_STEP = 1e-4  # of the parameters' norm
_LEAST_CHANGE, _GREATEST_CHANGE = 1e-4, 5e-2  # of the pre-activations' norm; float32 and curvature
_MAX_ATTEMPTS = 5
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
    nodes = wanted_nodes(traced, pre_activations)
    return _measured(nodes, tangents, values, method="forward")


def by_differences(
    subject: Subject, passes: Passes, direction: Direction, *, note: str = ""
) -> SeedUpdate:
    """M_l = mean ((z_l(theta + h u) - z_l(theta - h u)) / 2h)^2.

    The step h is chosen so that the pre-activations change by a share between 1e-4 and 5e-2.

    Args:
        subject: The model; left as it is.
        passes: Of the probe.
        direction: Of the step.
        note: Why not in forward mode.

    Returns:
        The measurement.

    Raises:
        CaptureError: The forward pass raised.
    """
    step = _FIRST_STEP * direction.scale
    if not 0 < step < math.inf:
        return _without_bound(passes, note=f"{note} a step that is not finite".strip())
    with moved_along(subject.model, direction.updates, subject.origin) as move_to:
        for _ in range(_MAX_ATTEMPTS):
            move_to(-step)
            below = passes.kept()
            move_to(step)
            changes, values = passes.compared(below)
            share = _largest_share(changes, values)
            found = {index: change / (2 * step) ** 2 for index, change in changes.items()}
            if share == 0 or _LEAST_CHANGE <= share <= _GREATEST_CHANGE:
                break
            middle = math.sqrt(_LEAST_CHANGE * _GREATEST_CHANGE)
            step *= middle / share if math.isfinite(share) else 1e-3
        else:
            note = f"{note} the changes did not settle: {share:.2g} of a pre-activation".strip()
    return _measured(passes.nodes, found, values, method="differences", note=note)


def _without_bound(passes: Passes, *, note: str) -> SeedUpdate:
    """What a step of no finite length does: every change is infinite."""
    values = {index: mean_square(output) for index, output in passes.kept().items()}
    infinite = dict.fromkeys(values, math.inf)
    return _measured(passes.nodes, infinite, values, method="differences", note=note)


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
            return [_or_infinite(found[node.index]) for node in passes.nodes]

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


def _measured(
    nodes: tuple[Node, ...],
    mean_squares: Mapping[int, float],
    second_moments: Mapping[int, float],
    *,
    method: Method,
    note: str = "",
) -> SeedUpdate:
    return SeedUpdate(
        places=tuple((node.module, _name(node)) for node in nodes),
        mean_squares=tuple(_or_infinite(mean_squares[node.index]) for node in nodes),
        second_moments=tuple(_or_infinite(second_moments[node.index]) for node in nodes),
        method=method,
        note=note,
    )


def _name(node: Node) -> str:
    return "addition" if node.weight is None else "+".join(node.weight.parameters)


def _or_infinite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _largest_share(changes: Mapping[int, float], values: Mapping[int, float]) -> float:
    """Largest change of a pre-activation over its size (there and back: half of the distance)."""
    shares = [
        math.sqrt(change / values[index]) / 2
        for index, change in changes.items()
        if values[index] > 0 and math.isfinite(change)
    ]
    infinite = any(not math.isfinite(change) for change in changes.values())
    return math.inf if infinite else max(shares, default=0.0)
