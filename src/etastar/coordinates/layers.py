"""Which pre-activations of one size stand for which of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from etastar.coordinates.coordinate_report import AxisKind
from etastar.coordinates.curves import Place, SizeRuns
from etastar.errors import MeasureError
from etastar.measure.differences import ADDITION
from etastar.naming import name_template
from etastar.parameter import Role

LayerKey: TypeAlias = "tuple[str, str, Role | None]"
"""Module path, over depth with a star for every index; `Place.name`, likewise, with a number where
a module has several; role of its weights, None for sums and products."""

Shares: TypeAlias = "tuple[dict[int, float], ...]"
"""For each size, of places by position, in the mean that is compared; positive, they sum to one."""


def match_layers(
    sizes: Sequence[SizeRuns],
) -> tuple[AxisKind, dict[LayerKey, Shares], tuple[str, ...]]:
    """Match the pre-activations of all sizes, which are ascending.

    Where all sizes execute the same layers (width), each matches by its own name. Otherwise (depth)
    they match by kind: module path and parameter names with a star for every index, and role. Those
    of a kind are compared at the same relative depth (additions before, over all additions; of
    chains layers): at the places that the kind has at the smallest size, every other size is read
    off by linear interpolation between its own, and the mean over these places is taken.

    Returns:
        The kind of axis; what matches, in the order of the largest size; what some sizes lack.

    Raises:
        MeasureError: The sizes gave the same network, or nothing matches.
    """
    names = [[(p.module, p.name, p.number) for p in size.places] for size in sizes]
    if all(one == names[0] for one in names):
        _require_different(sizes)
        return ("width", *_by_kind(sizes, str))  # every name stays as it is: a kind of its own
    return ("depth", *_by_kind(sizes, name_template))


def _by_kind(
    sizes: Sequence[SizeRuns], template: Callable[[str], str]
) -> tuple[dict[LayerKey, Shares], tuple[str, ...]]:
    def stem(place: Place) -> tuple[str, str]:
        return template(place.module), template(place.name)

    repeats = [  # most places of one name in one module
        {stem(place): place.number for place in sorted(size.places, key=lambda one: one.number)}
        for size in sizes
    ]
    members: list[dict[LayerKey, list[int]]] = []
    for size in sizes:
        found: dict[LayerKey, list[int]] = {}
        for position, place in enumerate(size.places):
            module, name = stem(place)
            # in a loop of the module's own forward the number is one of depth
            is_fixed = len({one.get((module, name)) for one in repeats}) == 1
            numbered = f"{name} {place.number}" if is_fixed and place.number > 1 else name
            found.setdefault((module, numbered, size.role(place)), []).append(position)
        members.append(found)
    shared = [key for key in members[-1] if all(key in found for found in members)]
    if not shared:
        raise MeasureError(
            f"sizes {[dict(size.size) for size in sizes]} that have no kind of layer in common",
            "networks of one family",
            "check the factory, or start from a larger size",
        )
    matched = {key: _shares([found[key] for found in members], sizes) for key in shared}
    lacking = {key: None for found in members for key in found if key not in shared}
    return matched, tuple(f"{module or '(root)'}: {name}" for module, name, _ in lacking)


def _shares(members: list[list[int]], sizes: Sequence[SizeRuns]) -> Shares:
    """The members of a kind, weighted so that their mean is at the smallest size's places."""
    positions = [
        [_relative_depth(size.places, member) for member in own]
        for size, own in zip(sizes, members, strict=True)
    ]
    weights = [_interpolation(positions[0], own) for own in positions]
    return tuple(
        {member: weight for member, weight in zip(*both, strict=True) if weight > 0}
        for both in zip(members, weights, strict=True)
    )


def mean_moments(sizes: Sequence[SizeRuns], shares: Shares) -> NDArray[np.float64]:
    """Moments of z_0 and z_t - z_0, mean over the places: (seeds, 1 + steps, sizes)."""
    means = [
        size.moments[:, :, list(own)] @ np.array(list(own.values()))
        for size, own in zip(sizes, shares, strict=True)
    ]
    return np.stack(means, axis=-1)


def _relative_depth(places: Sequence[Place], position: int) -> float:
    """Share of the network's additions (of a chain's layers) up to a place."""
    counts = [place.name == ADDITION for place in places]
    if not any(counts):
        counts = [place.is_layer for place in places]
    return sum(counts[: position + 1]) / sum(counts)


def _interpolation(wanted: Sequence[float], own: Sequence[float]) -> list[float]:
    """Weight of each own place in the mean over the wanted ones, by linear interpolation."""
    units = np.eye(len(own))
    return [float(np.interp(wanted, own, unit).mean()) for unit in units]


def _require_different(sizes: Sequence[SizeRuns]) -> None:
    shapes = [tuple(p.shape for p in size.architecture.parameters) for size in sizes]
    for before, after, small, large in zip(shapes, shapes[1:], sizes, sizes[1:], strict=False):
        if before == after:
            raise MeasureError(
                f"sizes {dict(small.size)} and {dict(large.size)}, which gave the same network",
                "a setting that changes width or depth",
                "check that the factory uses what it is given",
            )
