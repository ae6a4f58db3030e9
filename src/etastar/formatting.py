"""Numbers and names as text: never a number cut, names shortened in the middle."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from etastar.naming import name_template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

__all__ = [
    "Shown",
    "interval",
    "json_numbers",
    "name_pattern",
    "number",
    "percent",
    "shorten_middle",
]


class Shown(ABC):
    """A frozen dataclass that shows itself: as text, on a terminal and as plain data for JSON.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Rate(Shown):
        ...     lr: float
        ...     def __rich__(self):
        ...         return f"lr {number(self.lr)}"
        >>> print(Rate(0.1)), Rate(0.1).as_dict()
        lr 0.1
        (None, {'lr': 0.1})
    """

    __slots__ = ()

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """What Rich prints; at most 80 columns, styles by `Text`, since no markup is read."""

    def __str__(self) -> str:
        import io

        from rich.console import Console

        text = io.StringIO()
        console = Console(file=text, width=80, color_system=None, legacy_windows=False)
        console.print(self, highlight=False, markup=False)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").split("\n"))

    def _repr_html_(self) -> str:
        """What a notebook shows: the text, escaped, in letters of one width."""
        return f'<pre style="line-height: 1.25; white-space: pre">{escape(str(self))}</pre>'

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data for JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


def number(x: float) -> str:
    """A number with four significant digits.

    Args:
        x: Any number.

    Returns:
        At most ten characters, eleven below zero.

    Example:
        >>> number(0.0003123456), number(250), number(1e-9)
        ('0.0003123', '250', '1e-09')
    """
    return f"{x:.4g}"


def interval(low: float, high: float) -> str:
    """An interval.

    Args:
        low: Lower end.
        high: Upper end.

    Returns:
        Both ends.

    Example:
        >>> interval(0.01, 0.2)
        '0.01 to 0.2'
    """
    return f"{number(low)} to {number(high)}"


def percent(x: float) -> str:
    """A share as a percentage.

    Args:
        x: The share; 1 is all.

    Returns:
        With one digit after the point; infinity stands for a run that diverged.

    Example:
        >>> percent(0.0314), percent(math.inf)
        ('3.1%', 'diverged')
    """
    return f"{100 * x:.1f}%" if math.isfinite(x) else "diverged"


def name_pattern(names: Iterable[str]) -> str:
    """Names with their indices left open, and how often each occurs, on one line.

    Args:
        names: Dotted names of parameters or modules.

    Returns:
        The patterns, in the order of their first name.

    Example:
        >>> name_pattern(["blocks.0.weight", "blocks.1.weight", "head.bias"])
        'blocks.*.weight (2), head.bias'
    """
    counts = Counter(name_template(name) for name in names)
    return ", ".join(f"{pattern} ({n})" if n > 1 else pattern for pattern, n in counts.items())


def shorten_middle(text: str, width: int) -> str:
    """A text with its middle left out, where it is longer than a line.

    Args:
        text: One line.
        width: Most characters, at least 1.

    Returns:
        The text, or its beginning and end.

    Example:
        >>> shorten_middle("encoder.layers.*.attention.weight", 20)
        'encoder.l…ion.weight'
    """
    if len(text) <= width:
        return text
    end = width // 2
    return f"{text[: width - end - 1]}…{text[len(text) - end :]}"


def json_numbers(data: Any) -> Any:
    """Plain data with None in place of numbers that are not finite, which JSON lacks.

    Args:
        data: Nested dicts, lists and tuples.

    Returns:
        The same; lists for tuples.

    Example:
        >>> json_numbers({"interval": (0.5, math.inf)})
        {'interval': [0.5, None]}
    """
    if isinstance(data, dict):
        return {name: json_numbers(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [json_numbers(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
