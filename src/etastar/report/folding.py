"""Rows of a network that repeat, folded: 96 blocks of one kind are one line until it is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from etastar.naming import name_template
from etastar.report.charts import DrawnNode

__all__ = ["Fold", "fold_rows"]

_LONGEST = 8  # parts that repeat together
_FEWEST = 8  # rows that are worth a fold

Signature: TypeAlias = "tuple[tuple[str, str, str, bool, bool], ...]"


@dataclass(frozen=True)
class Fold:
    """Rows that are shown as one line.

    Attributes:
        title: What they are.
        content: What is in them.
        items: Rows by their place, and folds, in order.
        start: Place of the first row.
        end: Place after the last row.
    """

    title: str
    content: str
    items: tuple[Fold | int, ...]
    start: int
    end: int


Span: TypeAlias = "tuple[int, int]"


def fold_rows(nodes: Sequence[DrawnNode]) -> tuple[Fold | int, ...]:
    """Fold what repeats: rows of one block (`blocks.0`) are a part, alike parts in a row a fold.

    Args:
        nodes: The rows.

    Returns:
        Places of rows, and folds, in order; every row is in it once.

    Example:
        >>> row = lambda k: DrawnNode(f"blocks.{k}", "weight layer", "mm")
        >>> [fold.title for fold in fold_rows([row(k) for k in range(12)])]
        ['blocks.0 to blocks.11']
    """
    return _folded(nodes, 0, len(nodes), level=1)


def _folded(nodes: Sequence[DrawnNode], start: int, end: int, level: int) -> tuple[Fold | int, ...]:
    parts = _parts(nodes, start, end, level)
    signatures = [_signature(nodes, *part) for part in parts]
    items: list[Fold | int] = []
    place = 0
    while place < len(parts):
        period, repeats = _repetition(signatures, place)
        run = parts[place : place + period * repeats]
        if repeats > 1 and run[-1][1] - run[0][0] >= _FEWEST:
            items.append(_run(nodes, run, period, level))
            place += len(run)
        else:
            items += _opened(nodes, parts[place], level)
            place += 1
    return tuple(items)


def _parts(nodes: Sequence[DrawnNode], start: int, end: int, level: int) -> list[Span]:
    """Neighbouring rows whose paths agree up to their index number `level`; others alone."""
    parts: list[Span] = []
    before: str | None = None
    for place in range(start, end):
        prefix = _prefix(nodes[place].module, level)
        if prefix is not None and prefix == before:
            parts[-1] = (parts[-1][0], place + 1)
        else:
            parts.append((place, place + 1))
        before = prefix
    return parts


def _prefix(module: str, level: int) -> str | None:
    names = module.split(".")
    indices = [place for place, name in enumerate(names) if name.isdecimal()]
    return ".".join(names[: indices[level - 1] + 1]) if len(indices) >= level else None


def _signature(nodes: Sequence[DrawnNode], start: int, end: int) -> Signature:
    rows = nodes[start:end]
    return tuple((n.kind, name_template(n.module), n.op, n.lit, n.on_path) for n in rows)


def _repetition(signatures: Sequence[Signature], place: int) -> tuple[int, int]:
    """Parts that repeat together from here on, and how often: those that cover most."""
    best = (1, 1)
    for period in range(1, min(_LONGEST, (len(signatures) - place) // 2) + 1):
        unit = signatures[place : place + period]
        repeats = 1
        while signatures[place + period * repeats :][:period] == unit:
            repeats += 1
        if repeats > 1 and period * repeats > best[0] * best[1]:
            best = (period, repeats)
    return best


def _run(nodes: Sequence[DrawnNode], run: Sequence[Span], period: int, level: int) -> Fold:
    units = [(run[k][0], run[k + period - 1][1]) for k in range(0, len(run), period)]
    content = _content(nodes, *units[0])
    first, last = (_unit_name(nodes, unit, level) for unit in (units[0], units[-1]))
    items: list[Fold | int] = []
    for unit in units:
        inner = tuple(
            item
            for part in run
            if unit[0] <= part[0] < unit[1]
            for item in _opened(nodes, part, level)
        )
        is_short = unit[1] - unit[0] < 3
        name = _unit_name(nodes, unit, level)
        items += inner if is_short else [Fold(name, content, inner, *unit)]
    start, end = run[0][0], run[-1][1]
    return Fold(
        f"{first} to {last}", f"{len(units)} alike, each {content}", tuple(items), start, end
    )


def _opened(nodes: Sequence[DrawnNode], part: Span, level: int) -> tuple[Fold | int, ...]:
    if part[1] - part[0] == 1:
        return (part[0],)
    return _folded(nodes, *part, level=level + 1)


def _unit_name(nodes: Sequence[DrawnNode], unit: Span, level: int) -> str:
    module = nodes[unit[0]].module
    return _prefix(module, level) or module or "(root)"


def _content(nodes: Sequence[DrawnNode], start: int, end: int) -> str:
    counts = Counter(node.kind for node in nodes[start:end])
    words = (("weight layer", "layer"), ("residual addition", "addition"))
    return ", ".join(f"{counts[k]} {w}{'s' * (counts[k] != 1)}" for k, w in words if counts[k])
