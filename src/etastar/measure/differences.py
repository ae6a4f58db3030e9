"""The derivative of the pre-activations along a direction, by differences of forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from etastar.errors import MeasureError
from etastar.measure.passes import moved_along
from etastar.measure.pre_activations import mean_square
from etastar.measure.records import SeedUpdate

if TYPE_CHECKING:
    from torch import Tensor

    from etastar.graph.dag import Node
    from etastar.measure.optimizers import Direction
    from etastar.measure.passes import Passes
    from etastar.measure.records import Method
    from etastar.measure.subject import Subject

__all__ = ["ROOM", "by_differences", "or_infinite", "seed_update"]

ROOM: Final = 1.0
"""Pre-activations of the gradient's own pass are kept as far as they take this many times the
memory of the parameters: a training step with Adam, which remembers two numbers per parameter, then
takes as much as the measurement, which copies the model instead."""

_FIRST_STEP = 1e-4  # of the norm of all parameters
_MAX_ATTEMPTS = 5


class _Scheme(NamedTuple):
    """How far a step may change the pre-activations, as a share of their size."""

    sides: int
    least: float  # below, float32 has too few digits of the change
    greatest: float  # above, curvature shows

    @property
    def middle(self) -> float:
        return math.sqrt(self.least * self.greatest)


_CENTRAL, _ONE_SIDED = _Scheme(2, 1e-4, 5e-2), _Scheme(1, 1e-4, 2e-2)


def by_differences(
    subject: Subject,
    passes: Passes,
    direction: Direction,
    *,
    base: dict[int, Tensor] | None = None,
    note: str = "",
) -> SeedUpdate:
    """M_l = mean ((z_l(theta + h u) - z_l(theta - h u)) / 2h)^2, or one-sided.

    The step h is chosen so that the pre-activations that later layers depend on change by a share
    between 1e-4 and 5e-2. Those of the last layer may change by any: they are linear in its weight,
    and a readout far smaller than its update would make the step so short that the other weights
    lose it in rounding. Where z_l(theta) is known, M_l = mean ((z_l(theta + h u) - z_l(theta)) /
    h)^2, which saves a pass; curvature weighs more in it, so the share is then kept below 2e-2.

    Args:
        subject: The model; left as it is.
        passes: Of the probe.
        direction: Of the step.
        base: z_l(theta) by node, of an earlier pass; where the earliest lack, memory is short: they
            are computed again, and all are used up.
        note: Why not in forward mode.

    Returns:
        The measurement.

    Raises:
        CaptureError: The forward pass raised.
        MeasureError: Two passes lack a common pre-activation.
    """
    base = {} if base is None else base
    is_short = len(base) < len(passes.nodes)
    step = _FIRST_STEP * direction.scale
    if not 0 < step < math.inf:
        return _without_bound(passes, note=_joined(note, "a step that is not finite"))
    with moved_along(subject.model, direction.updates, subject.origin) as move_to:

        def central(step: float) -> _Change:
            move_to(-step)
            below = passes.kept()
            move_to(step)
            return _Change(*passes.compared(below), passes.inner, step, _CENTRAL)

        def one_sided(step: float) -> _Change:
            if lacking := [node.index for node in passes.nodes if node.index not in base]:
                move_to(0.0)
                base.update(passes.kept(lacking))
            move_to(step)
            others = base if is_short else dict(base)
            return _Change(*passes.compared(others), passes.inner, step, _ONE_SIDED)

        found = None
        if base:
            found = _while_steady(passes, lambda: _settled(one_sided, step))
        if found is None:
            found = _settled(central, step)
    change, trouble = found
    return seed_update(
        passes.nodes,
        change.mean_squares,
        change.values,
        method="differences",
        note=_joined(note, trouble),
    )


class _Change(NamedTuple):
    """What a step did: mean squares of the changes, by node, and of the values.

    `inner` are the nodes that later layers depend on.
    """

    changes: dict[int, float]
    values: dict[int, float]
    inner: frozenset[int]
    step: float
    scheme: _Scheme

    @property
    def mean_squares(self) -> dict[int, float]:
        """Of the derivative."""
        distance = self.scheme.sides * self.step
        return {index: change / distance**2 for index, change in self.changes.items()}

    @property
    def share(self) -> float:
        """Largest change, to one side, of a pre-activation that counts, over its size."""
        if not all(math.isfinite(change) for change in self.changes.values()):
            return math.inf
        counted = self.inner.intersection(self.changes) or self.changes.keys()
        sizes = {index: self.values[index] for index in counted if self.values[index] > 0}
        shares = (math.sqrt(self.changes[index] / size) for index, size in sizes.items())
        return max(shares, default=0.0) / self.scheme.sides


def _settled(changed: Callable[[float], _Change], step: float) -> tuple[_Change, str]:
    """The change by a step of fitting size, and what is wrong with it."""
    for _ in range(_MAX_ATTEMPTS):
        found = changed(step)
        share, scheme = found.share, found.scheme
        if share == 0 or scheme.least <= share <= scheme.greatest:
            return found, ""
        step *= scheme.middle / share if math.isfinite(share) else 1e-3
    return found, f"the changes did not settle: {share:.2g} of a pre-activation"


def _while_steady(
    passes: Passes, measured: Callable[[], tuple[_Change, str]]
) -> tuple[_Change, str] | None:
    """A measurement beside an earlier pass; None where the model has taken another way since."""
    try:
        found = measured()
    except MeasureError:
        if passes.is_steady:
            raise
        return None
    return found if passes.is_steady else None


def _without_bound(passes: Passes, *, note: str) -> SeedUpdate:
    """What a step of no finite length does: every change is infinite."""
    values = {index: mean_square(output) for index, output in passes.kept().items()}
    infinite = dict.fromkeys(values, math.inf)
    return seed_update(passes.nodes, infinite, values, method="differences", note=note)


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def seed_update(
    nodes: Iterable[Node],
    mean_squares: Mapping[int, float],
    second_moments: Mapping[int, float],
    *,
    method: Method,
    note: str = "",
) -> SeedUpdate:
    """The measurement of one seed.

    Args:
        nodes: The pre-activations, in the order of execution.
        mean_squares: S_l / eta^2 by node.
        second_moments: Mean of z^2 by node.
        method: How it was measured.
        note: What is to be said of it.

    Returns:
        The record.
    """
    nodes = tuple(nodes)
    return SeedUpdate(
        places=tuple((node.module, _name(node)) for node in nodes),
        mean_squares=tuple(or_infinite(mean_squares[node.index]) for node in nodes),
        second_moments=tuple(or_infinite(second_moments[node.index]) for node in nodes),
        method=method,
        note=note,
    )


def or_infinite(value: float) -> float:
    """A number, infinite where it is none.

    Args:
        value: Any.

    Returns:
        It, or infinity.

    Example:
        >>> or_infinite(math.nan)
        inf
    """
    return value if math.isfinite(value) else math.inf


def _name(node: Node) -> str:
    return "addition" if node.weight is None else "+".join(node.weight.parameters)
