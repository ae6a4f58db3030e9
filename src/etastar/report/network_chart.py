"""A network as a chart: what repeats is one row, the path is lit, branches stand beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from etastar.report.charts import GREY, Axis, Chart, DrawnNode, Section, Series
from etastar.report.folding import Fold, fold_rows
from etastar.report.plan_sections import axis_labels

__all__ = ["network_chart", "section_charts"]

_LIT, _LAYER = 1, 0  # colours
_KINDS = ("weight layer", "residual addition")


def section_charts(section: Section) -> tuple[Chart, ...]:
    """The charts of a section; of one that has none, its network as a chart.

    Args:
        section: Of any result.

    Returns:
        The charts; () where there is no network either.
    """
    if section.charts or not section.network:
        return section.charts
    return (network_chart(section.network),)


def network_chart(nodes: Sequence[DrawnNode]) -> Chart:
    """Operations from top to bottom, in two columns: the shortest path, and everything else.

    Args:
        nodes: From `drawn_nodes`, or the path of a depth report.

    Returns:
        A row for every operation, and one for all blocks that are alike.

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
