"""A network from top to bottom as SVG: the shortest path lit and straight, branches beside it.

How this works. Operations stand in rows, in the order of execution, in two columns: the shortest
path, and everything else. Rows that repeat are folded (`fold_rows`) into HTML `details`, which
open by a click or Enter without a script; the rows between two folds are one SVG. An edge between
two of them is drawn in parts: from its row to the end of its SVG, and from the start of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby, pairwise

from etastar.formatting import shorten_middle
from etastar.graph import Graph
from etastar.graph.paths import shortest_path
from etastar.naming import name_template

_UNDRAWN = ("view", "other")
_UNCOUNTED = ("norm", "activation", "attention contraction")
_ROW, _TRUNK, _BRANCH, _TEXT, _WIDTH = 26, 18, 46, 64, 340  # pixels
_LANE = 12  # beside a column, for an edge past other rows
_NAME, _OP = 26, 15  # characters
_LONGEST = 8  # parts that repeat together
_FEWEST = 8  # rows that are worth a fold


@dataclass(frozen=True)
class DrawnNode:
    """One operation of a network as it is drawn.

    Attributes:
        module: Path of the module it ran in.
        kind: As `etastar.graph.Node.kind`.
        op: Name of the operation.
        shape: Of its output; () where it is not known.
        lit: Whether it counts on the shortest path.
        on_path: Whether that path goes through it, counted or not.
        sources: Places, in the drawing, of the nearest drawn operations that it reads.
    """

    module: str
    kind: str
    op: str
    shape: tuple[int, ...] = ()
    lit: bool = False
    on_path: bool = False
    sources: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fold:
    """Rows that are shown as one line.

    Attributes:
        title: What they are.
        content: What is in them.
        items: Rows by their place, and folds, in order.
        rows: Places of all of its rows.
    """

    title: str
    content: str
    items: tuple[Fold | int, ...]
    rows: Sequence[int]


def drawn_nodes(graph: Graph) -> tuple[DrawnNode, ...]:
    """The operations of a graph that are drawn, in order: all but views and arithmetic.

    Those that count on the shortest path are lit. A graph without effective depth is refused.

    Example:
        >>> import torch
        >>> from etastar.graph import capture_graph
        >>> chain = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
        >>> [(n.module, n.kind, n.lit) for n in drawn_nodes(capture_graph(chain, torch.ones(1, 4)))]
        [('0', 'weight layer', True), ('1', 'activation', False)]
    """
    counted = shortest_path(graph.contraction, graph.depth().outputs)
    lit = set(counted)
    places: dict[int, int] = {}
    nearest: dict[int, frozenset[int]] = {}
    found: list[DrawnNode] = []
    for node in graph:
        before = frozenset[int]().union(*(nearest[i] for i in node.inputs))
        nearest[node.index] = before
        if node.kind == "input" or (node.kind in _UNDRAWN and node.index not in lit):
            continue
        places[node.index] = len(found)
        nearest[node.index] = frozenset([len(found)])
        found.append(
            DrawnNode(
                node.module,
                node.kind,
                node.name,
                node.shape,
                lit=node.index in lit,
                sources=tuple(sorted(before)),
            )
        )
    through = set(_through(found, [places[index] for index in counted]))
    return tuple(replace(node, on_path=place in through) for place, node in enumerate(found))


def _through(nodes: Sequence[DrawnNode], lit: Sequence[int]) -> Iterator[int]:
    """What the shortest path goes through: from each counted operation back to the one before."""
    for before, last in zip([-1, *lit], lit, strict=False):
        yield last
        ways = {last: last}  # where each operation leads to, on a way with no other counted one
        queue = [last]
        for place in queue:
            for source in nodes[place].sources:
                if source not in ways and (source == before or nodes[source].kind in _UNCOUNTED):
                    ways[source] = place
                    queue.append(source)
        place = before if before in ways else last
        while place != last:
            yield place
            place = ways[place]


def fold_rows(nodes: Sequence[DrawnNode]) -> tuple[Fold | int, ...]:
    """Fold what repeats: rows of one block (`blocks.0`) are a part, alike parts in a row a fold.

    Every row is in it once, by its place.

    Example:
        >>> row = lambda k: DrawnNode(f"blocks.{k}", "weight layer", "mm")
        >>> [fold.title for fold in fold_rows([row(k) for k in range(12)])]
        ['blocks.0 to blocks.11']
    """
    return tuple(_folded(nodes, range(len(nodes)), level=1))


def _folded(nodes: Sequence[DrawnNode], rows: Sequence[int], level: int) -> Iterator[Fold | int]:
    """Rows whose paths agree up to their index number `level` are a part; others are alone."""
    by_block = groupby(rows, key=lambda place: _block(nodes[place].module, level) or place)
    parts = [list(run) for _, run in by_block]
    signatures = [[_signature(nodes[place]) for place in part] for part in parts]
    place = 0
    while place < len(parts):
        period, repeats = _repetition(signatures, place)
        run = parts[place : place + period * repeats]
        if repeats > 1 and sum(map(len, run)) >= _FEWEST:
            yield _run(nodes, run, period, level)
        else:
            run = run[:1]
            yield from _opened(nodes, run, level)
        place += len(run)


def _block(module: str, level: int) -> str | None:
    names = module.split(".")
    indices = [place for place, name in enumerate(names) if name.isdecimal()]
    return ".".join(names[: indices[level - 1] + 1]) if len(indices) >= level else None


def _signature(node: DrawnNode) -> tuple[object, ...]:
    return node.kind, name_template(node.module), node.op, node.lit, node.on_path


def _repetition(signatures: Sequence[object], place: int) -> tuple[int, int]:
    """Parts that repeat together from here on, and how often: those that cover most."""
    best = (1, 1)
    for period in range(1, min(_LONGEST, (len(signatures) - place) // 2) + 1):
        unit = signatures[place : place + period]
        end = place + period
        while signatures[end : end + period] == unit:
            end += period
        if end > place + max(period, best[0] * best[1]):
            best = (period, (end - place) // period)
    return best


def _run(nodes: Sequence[DrawnNode], run: Sequence[list[int]], period: int, level: int) -> Fold:
    """Parts of which every `period` are a unit, all units alike."""
    units = [run[k : k + period] for k in range(0, len(run), period)]
    places = [[place for part in unit for place in part] for unit in units]
    modules = [nodes[own[0]].module for own in places]
    names = [_block(module, level) or module or "(root)" for module in modules]
    content = _content([nodes[place] for place in places[0]])
    items: list[Fold | int] = []
    for name, unit, own in zip(names, units, places, strict=True):
        inner = tuple(_opened(nodes, unit, level))
        items += inner if len(own) < 3 else [Fold(name, content, inner, own)]
    return Fold(
        f"{names[0]} to {names[-1]}",
        f"{len(units)} alike, each {content}",
        tuple(items),
        [place for own in places for place in own],
    )


def _opened(
    nodes: Sequence[DrawnNode], parts: Sequence[list[int]], level: int
) -> Iterator[Fold | int]:
    for part in parts:
        yield from part if len(part) == 1 else _folded(nodes, part, level + 1)


def _content(nodes: Sequence[DrawnNode]) -> str:
    counts = Counter(node.kind for node in nodes)
    words = (("weight layer", "layer"), ("residual addition", "addition"))
    return ", ".join(f"{counts[k]} {w}{'s' * (counts[k] != 1)}" for k, w in words if counts[k])


def draw_network(nodes: Sequence[DrawnNode]) -> str:
    """The network as SVGs and folds in HTML, names escaped; styles are the page's."""
    picture = _Picture(nodes)
    return "".join(picture.items(fold_rows(nodes)))


class _Picture:
    def __init__(self, nodes: Sequence[DrawnNode]) -> None:
        self.nodes = nodes
        self.columns = [_TRUNK if node.on_path else _BRANCH for node in nodes]
        self.edges = [(a, b) for b, node in enumerate(nodes) for a in node.sources]
        self.lit_edges = set[tuple[int, int]]()
        path = [place for place, node in enumerate(nodes) if node.on_path]
        self.lit_edges.update(pairwise(path))

    def items(self, items: Sequence[Fold | int]) -> Iterator[str]:
        """SVGs of neighbouring rows, and folds between them."""
        for _, group in groupby(items, key=lambda item: isinstance(item, int)):
            some = list(group)
            if rows := [item for item in some if isinstance(item, int)]:
                yield self._rows(rows[0], rows[-1] + 1)
            yield from (self._fold(item) for item in some if isinstance(item, Fold))

    def _fold(self, fold: Fold) -> str:
        lit = sum(self.nodes[place].lit for place in fold.rows)
        what = f"{escape(shorten_middle(fold.title, 44))} <small>{escape(fold.content)}"
        passes = any(a < fold.rows[0] and b > fold.rows[-1] for a, b in self.lit_edges)
        style = ' class="passed"' if lit or passes else ""
        inner = "".join(self.items(fold.items))
        return (
            f'<details data-lit="{lit}"{style}><summary>{what}; {lit} on the path</small></summary>'
            f"{inner}</details>"
        )

    def _rows(self, start: int, end: int) -> str:
        height = (end - start) * _ROW
        parts = [
            self._edge(edge, start, end)
            for edge in sorted({*self.edges, *self.lit_edges}, key=self.lit_edges.__contains__)
            if edge[0] < end and edge[1] >= start
        ]
        parts += [self._node(place, place - start) for place in range(start, end)]
        size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        return f'<svg {size} role="list">{"".join(parts)}</svg>'

    def _edge(self, edge: tuple[int, int], start: int, end: int) -> str:
        """From a row to another, or the part of it that lies within these rows."""
        first, last = edge
        x0, x1 = self.columns[first], self.columns[last]
        between = self.columns[first + 1 : last]
        lane = x0 - _LANE if x0 in between else x0
        y0, y1 = ((place - start + 0.5) * _ROW for place in edge)
        bottom = (end - start) * _ROW
        path = f"M{x0} {y0:g}" if first >= start else f"M{lane} 0"
        if first >= start and lane != x0:
            path += f"Q{lane} {y0:g} {lane} {y0 + _ROW / 2:g}"
        if last >= end:
            path += f"V{bottom}"
        else:
            turn = y1 - _ROW * (0.5 if lane == x0 else 0.75)
            path += f"V{max(turn, 0):g}"
            path += f"V{y1:g}" if lane == x1 else f"Q{lane} {y1:g} {x1} {y1:g}"
        style = ' class="lit"' if edge in self.lit_edges else ""
        return f'<path d="{path}"{style}/>'

    def _node(self, place: int, row: int) -> str:
        node = self.nodes[place]
        x, y = self.columns[place], row * _ROW + _ROW // 2
        shape = " x ".join(map(str, node.shape)) or "shape not known"
        path = node.module or "(root)"
        tip = escape(f"{path}\n{node.kind}: {node.op}\n{shape}")
        name = escape(shorten_middle(path, _NAME))
        op = escape(shorten_middle(node.op, _OP))
        kind = node.kind.replace(" ", "-") + (" lit" if node.lit else "")
        return (
            f'<g class="node {kind}" tabindex="0" role="listitem" aria-label="{tip}" '
            f'data-tip="{tip}"><path class="hit" d="M0 {row * _ROW}h{_WIDTH}v{_ROW}H0z"/>'
            f'{_mark(node.kind, x, y)}<text x="{_TEXT}" y="{y + 4}">{name}</text>'
            f'<text class="op" x="{_WIDTH - 4}" y="{y + 4}">{op}</text></g>'
        )


def _mark(kind: str, x: int, y: int) -> str:
    if kind == "residual addition":
        plus = f"M{x - 4} {y}h8M{x} {y - 4}v8"
        return f'<circle cx="{x}" cy="{y}" r="8"/><path class="plus" d="{plus}"/>'
    if kind == "weight layer":
        return f'<rect x="{x - 9}" y="{y - 7}" width="18" height="14" rx="3"/>'
    return f'<circle cx="{x}" cy="{y}" r="4"/>'
