"""Bracketing the minimum of a curve on a lattice, one point at a time."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

from etastar.fit.optimum import parabola_vertex

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Lattice", "Triple", "next_position"]


@dataclass(frozen=True)
class Lattice:
    """Where a curve may be evaluated: at the integers up to a limit.

    Attributes:
        gap: Distance to which a minimum's neighbours are brought, in positions.
        limit: Furthest position either way.
        growth: Each step outwards is this many times the last.
    """

    gap: int
    limit: int
    growth: int = 2


@dataclass(frozen=True)
class Triple:
    """The lowest position of a curve and its nearest evaluated neighbours."""

    left: int
    centre: int
    right: int


def next_position(values: Mapping[int, float], lattice: Lattice) -> int | Triple:
    """Where to look next for the minimum, or the points that enclose it.

    At the lower end of what is known, and at the upper end, the next position is further out, each
    step `growth` times the last. Inside, the neighbours of the lowest position are brought to the
    lattice's gap, at the side where the parabola through them has its minimum; a neighbour that is
    not finite is brought nearer still, by halving, to a distance of one. Equal values count as
    lower to the left, so that a curve that is +inf throughout is followed downwards.

    Args:
        values: Two positions or more with their values; what is not finite counts as +inf.
        lattice: Gap and limit.

    Returns:
        A new position, or the final triple. At the limit a triple has its centre at one end.

    Example:
        >>> next_position({0: 2.0, 1: 1.0}, Lattice(gap=1, limit=100))
        2
        >>> next_position({0: 2.0, 1: 1.0, 2: 1.5}, Lattice(gap=1, limit=100))
        Triple(left=0, centre=1, right=2)
    """
    heights = {k: v if isfinite(v) else inf for k, v in values.items()}
    known = sorted(heights)
    place = min(range(len(known)), key=lambda i: (heights[known[i]], i))
    centre = known[place]
    if place in (0, len(known) - 1):
        return _at_end(heights, known, lattice, downwards=place == 0)
    triple = Triple(known[place - 1], centre, known[place + 1])
    inner = _further_in(triple, heights, lattice)
    return triple if inner is None else inner


def _at_end(
    heights: Mapping[int, float], known: list[int], lattice: Lattice, *, downwards: bool
) -> int | Triple:
    """Further out; at the limit nearer to it from inside, as far as that tells anything."""
    outer = _further_out(known, lattice, downwards=downwards)
    if outer is not None:
        return outer
    centre, inner = (known[0], known[1]) if downwards else (known[-1], known[-2])
    near = lattice.gap if isfinite(heights[inner]) else 1
    if isfinite(heights[centre]) and abs(inner - centre) > near:
        return (centre + inner) // 2
    return Triple(centre, centre, inner) if downwards else Triple(inner, centre, centre)


def _further_out(known: list[int], lattice: Lattice, *, downwards: bool) -> int | None:
    """One position beyond an end; None at the limit."""
    end, inner = (known[0], known[1]) if downwards else (known[-1], known[-2])
    # the first two points are one step; only a later one has been stretched
    stretch = 1 if len(known) == 2 else lattice.growth
    step = max(lattice.gap, min(stretch * abs(end - inner), 2 * lattice.limit))
    outer = max(end - step, -lattice.limit) if downwards else min(end + step, lattice.limit)
    return None if outer == end else outer


def _further_in(triple: Triple, heights: Mapping[int, float], lattice: Lattice) -> int | None:
    """A position between the lowest and one of its neighbours; None when both are near enough."""
    floor, centre = heights[triple.centre], triple.centre
    gaps = {-1: centre - triple.left, 1: triple.right - centre}
    rises = {-1: heights[triple.left] - floor, 1: heights[triple.right] - floor}
    wide = {
        side: gap
        for side, gap in gaps.items()
        if gap > (lattice.gap if isfinite(rises[side]) else 1)
    }
    if not wide:
        return None
    heights_here = np.array([rises[-1], 0.0, rises[1]])
    vertex = None
    if np.isfinite(heights_here).all():
        vertex = parabola_vertex(np.array([-gaps[-1], 0.0, gaps[1]]), heights_here)
    if vertex is None:
        side = max(wide, key=lambda side: (wide[side], side))
        return centre + side * (wide[side] // 2)
    offset = vertex[0]
    steps = round(offset / lattice.gap)
    towards = 1 if offset > 0 else -1
    if steps == 0 or towards not in wide:
        side = towards if towards in wide else -towards
        return centre + side * lattice.gap
    return centre + steps * lattice.gap
