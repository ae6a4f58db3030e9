"""Rows of a network that repeat, folded: 96 blocks of one kind are one line; and such a chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from etastar.naming import name_template
from etastar.report.charts import GREY, Axis, Chart, DrawnNode, Section, Series, axis_labels

_LONGEST = 8  # parts that repeat together
_FEWEST = 8  # rows that are worth a fold
_LIT, _LAYER = 1, 0  # colours
_KINDS = ("weight layer", "residual addition")

_Signature: TypeAlias = "tuple[tuple[str, str, str, bool, bool], ...]"
_Span: TypeAlias = "tuple[int, int]"


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


def fold_rows(nodes: Sequence[DrawnNode]) -> tuple[Fold | int, ...]:
    """Fold what repeats: rows of one block (`blocks.0`) are a part, alike parts in a row a fold.

    Every row is in it once, by its place.

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


def _parts(nodes: Sequence[DrawnNode], start: int, end: int, level: int) -> list[_Span]:
    """Neighbouring rows whose paths agree up to their index number `level`; others alone."""
    parts: list[_Span] = []
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


def _signature(nodes: Sequence[DrawnNode], start: int, end: int) -> _Signature:
    rows = nodes[start:end]
    return tuple((n.kind, name_template(n.module), n.op, n.lit, n.on_path) for n in rows)


def _repetition(signatures: Sequence[_Signature], place: int) -> tuple[int, int]:
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


def _run(nodes: Sequence[DrawnNode], run: Sequence[_Span], period: int, level: int) -> Fold:
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


def _opened(nodes: Sequence[DrawnNode], part: _Span, level: int) -> tuple[Fold | int, ...]:
    if part[1] - part[0] == 1:
        return (part[0],)
    return _folded(nodes, *part, level=level + 1)


def _unit_name(nodes: Sequence[DrawnNode], unit: _Span, level: int) -> str:
    module = nodes[unit[0]].module
    return _prefix(module, level) or module or "(root)"


def _content(nodes: Sequence[DrawnNode], start: int, end: int) -> str:
    counts = Counter(node.kind for node in nodes[start:end])
    words = (("weight layer", "layer"), ("residual addition", "addition"))
    return ", ".join(f"{counts[k]} {w}{'s' * (counts[k] != 1)}" for k, w in words if counts[k])


def section_charts(section: Section) -> tuple[Chart, ...]:
    """The charts of a section; of one that has none, its network (if any) as a chart."""
    if section.charts or not section.network:
        return section.charts
    return (network_chart(section.network),)


def network_chart(nodes: Sequence[DrawnNode]) -> Chart:
    """Operations from top to bottom, in two columns: the shortest path, and everything else.

    All blocks that are alike are one row.

    Example:
        >>> layer = lambda k: DrawnNode(f"blocks.{k}", "weight layer", "mm", lit=True, on_path=True)
        >>> network_chart([layer(k) for k in range(96)]).y.ticks
        ('blocks.0 to blocks.95',)
    """
    items = fold_rows(nodes)
    spans = [(one.start, one.end) if isinstance(one, Fold) else (one, one + 1) for one in items]
    row_of = {place: row for row, span in enumerate(spans) for place in range(*span)}
    inside = [nodes[start:end] for start, end in spans]
    columns = [float(not any(node.on_path for node in own)) for own in inside]
    kinds = [
        "blocks" if isinstance(item, Fold) else own[0].kind if own[0].kind in _KINDS else "other"
        for item, own in zip(items, inside, strict=True)
    ]
    lit = [any(node.lit for node in own) for own in inside]
    labels = [
        f"{one.title}: {one.content}" if isinstance(one, Fold) else _label(nodes[one])
        for one in items
    ]
    edges = {(row_of[a], row_of[b]) for b, node in enumerate(nodes) for a in node.sources}
    series = [Series("", *_lines(edges, columns), "line", GREY)]
    path = [row for row, column in enumerate(columns) if not column]
    series.append(Series("shortest path", (0.0,) * len(path), tuple(path), "line", _LIT))
    for kind, is_lit in dict.fromkeys(zip(kinds, lit, strict=True)):
        rows = [
            row for row, own in enumerate(zip(kinds, lit, strict=True)) if own == (kind, is_lit)
        ]
        color = _LIT if is_lit else GREY if kind == "other" else _LAYER
        names = tuple(labels[row] for row in rows)
        xs = tuple(columns[row] for row in rows)
        name = f"{kind}, counted" if is_lit else kind
        series.append(Series(name, xs, tuple(map(float, rows)), "points", color, labels=names))
    ticks = axis_labels(_title(item, nodes) for item in items)
    axes = Axis("", ticks=("shortest path", "beside it")), Axis("", ticks=ticks)
    return Chart("the network, from top to bottom", *axes, tuple(series))


def _title(item: Fold | int, nodes: Sequence[DrawnNode]) -> str:
    return item.title if isinstance(item, Fold) else nodes[item].module or "(root)"


def _label(node: DrawnNode) -> str:
    shape = " x ".join(map(str, node.shape))
    return " ".join(filter(None, (node.module or "(root)", f"{node.kind}: {node.op}", shape)))


def _lines(
    edges: set[tuple[int, int]], columns: Sequence[float]
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Abscissas and ordinates of lines between rows, with a gap after each."""

    def ends() -> Iterator[tuple[float | None, float | None]]:
        for a, b in sorted(edge for edge in edges if edge[0] != edge[1]):
            yield from ((columns[a], a), (columns[b], b), (None, None))

    xs, ys = zip(*ends(), strict=True) if any(a != b for a, b in edges) else ((), ())
    return xs, ys
