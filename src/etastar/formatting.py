"""Numbers, intervals and names as results show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["interval", "number", "percent", "plain_text", "shorten_middle"]


def number(x: float) -> str:
    """Four significant digits, in the shorter of the two notations.

    Args:
        x: Any number.

    Returns:
        The text.

    Example:
        >>> number(0.000312345), number(12.0)
        ('0.0003123', '12')
    """
    return f"{x:.4g}"


def interval(low: float, high: float) -> str:
    """Both ends as `number` writes them.

    Args:
        low: Lower end.
        high: Upper end.

    Returns:
        The text.

    Example:
        >>> interval(0.1, 0.25)
        '0.1 to 0.25'
    """
    return f"{number(low)} to {number(high)}"


def percent(x: float) -> str:
    """A share in percent.

    Args:
        x: 1 for all of it.

    Returns:
        The text.

    Example:
        >>> percent(0.0123)
        '1.23%'
    """
    return f"{100 * x:.3g}%"


def shorten_middle(text: str, width: int) -> str:
    """The text, without its middle where it is longer than the width.

    Args:
        text: One line.
        width: Most characters to return, 3 or more.

    Returns:
        The text, or its two ends about an ellipsis.

    Example:
        >>> shorten_middle("blocks.0.attention.weight", 12)
        'blocks…eight'
    """
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def plain_text(renderable: RenderableType) -> str:
    """What Rich prints on a terminal of 80 columns, without colours.

    Args:
        renderable: Anything Rich prints.

    Returns:
        The lines, without trailing spaces.

    Example:
        >>> plain_text("eta* = 0.1")
        'eta* = 0.1'
    """
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=80, color_system=None, legacy_windows=False)
    console.print(renderable, highlight=False, markup=False)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))
