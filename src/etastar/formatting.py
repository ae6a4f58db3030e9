"""Numbers as results show them: never cut, and the same everywhere."""

from __future__ import annotations

__all__ = ["interval", "number"]


def number(x: float) -> str:
    """A number in three digits.

    Args:
        x: The number.

    Returns:
        Text.

    Example:
        >>> number(0.012345)
        '0.0123'
    """
    return f"{x:.3g}"


def interval(low: float, high: float) -> str:
    """An interval in three digits.

    Args:
        low: Lower end.
        high: Upper end.

    Returns:
        Text.

    Example:
        >>> interval(0.1, 0.25)
        '0.1 to 0.25'
    """
    return f"{number(low)} to {number(high)}"
