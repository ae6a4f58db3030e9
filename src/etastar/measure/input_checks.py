"""What callers give, checked in one place; and what their code raises, in one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

from etastar.errors import CaptureError, MeasureError, foreign_errors_as

__all__ = ["Sizes", "forward_pass", "read_sizes", "varied_alone"]

Sizes: TypeAlias = "Sequence[Mapping[str, int]]"
"""Settings of each network, [{"depth": 2, "width": 64}, {"depth": 4, "width": 64}]."""


def forward_pass() -> AbstractContextManager[None]:
    """A pass of the caller's model, recorded or not: what it raises becomes a `CaptureError`.

    Returns:
        See `foreign_errors_as`.
    """
    return foreign_errors_as(
        CaptureError,
        "a forward pass that failed",
        "a model that runs on the batch as it was given",
        "call model(inputs) yourself to see the error",
    )


def read_sizes(sizes: Sizes) -> tuple[dict[str, int], ...]:
    """The sizes that are different, in the order given.

    Args:
        sizes: See `Sizes`.

    Returns:
        Each size once.

    Raises:
        MeasureError: Not of that form, fewer than two, or with other settings each.

    Example:
        >>> read_sizes([{"depth": 2}, {"depth": 4}, {"depth": 2}])
        ({'depth': 2}, {'depth': 4})
    """
    found: list[dict[str, int]] = []
    if isinstance(sizes, Sequence) and all(isinstance(size, Mapping) for size in sizes):
        for size in map(dict, sizes):
            if size not in found:
                found.append(size)
    values = [value for size in found for value in size.values()]
    is_positive = all(_is_whole(value) and value > 0 for value in values)
    if len(found) < 2 or not is_positive or len({frozenset(size) for size in found}) > 1:
        raise MeasureError(
            f"sizes={sizes!r}",
            "two different sizes or more, each with positive values of the same settings",
            'give for example sizes=[{"width": 32}, {"width": 64}, {"width": 128}]',
        )
    return tuple(found)


def varied_alone(sizes: Sequence[Mapping[str, int]]) -> dict[str, tuple[dict[str, int], ...]]:
    """For each setting the sizes in which all others are as in the first size.

    Args:
        sizes: From `read_sizes`.

    Returns:
        Name of the setting to its sizes, ascending; without those that never vary alone.

    Raises:
        MeasureError: No setting varies alone.

    Example:
        >>> list(varied_alone([{"depth": 2, "width": 8}, {"depth": 4, "width": 8}]))
        ['depth']
    """
    first = sizes[0]
    lines = {}
    for name in first:
        line = [dict(s) for s in sizes if all(s[k] == v for k, v in first.items() if k != name)]
        if len(line) > 1:
            lines[name] = tuple(sorted(line, key=lambda size: size[name]))
    if not lines:
        raise MeasureError(
            f"sizes={[dict(size) for size in sizes]}",
            "two or more that differ from the first in one setting alone",
            "add sizes between which a single setting changes",
        )
    return lines


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
