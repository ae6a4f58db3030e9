"""What a report shows, before it is drawn: charts, tables, networks, and sections of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from etastar.formatting import shorten_middle
from etastar.report.drawing import DrawnNode

GREY = -1
"""Index of the colour of what is no result: a reference, a base."""

_LABEL = 28  # characters of a name on an axis
_LONG = 40  # characters of a cell

Look = Literal["curve", "runs", "minimum", "points", "line", "dashes", "band"]
Numbers: TypeAlias = "tuple[float | None, ...]"


@dataclass(frozen=True)
class Axis:
    """An axis; with `ticks` the coordinates 0, 1, ... have names."""

    title: str
    log: bool = False
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Marks of one kind.

    Attributes:
        name: In the legend; "" for none.
        x: Abscissas.
        y: Ordinates; None where there is none. Of a band, its lower edge.
        look: How it is drawn.
        color: Index in the palette.
        x_ends: Ends of the horizontal interval of each mark; None where it has none.
        y_ends: Of the vertical one; of a band, `y_ends` are its edges.
        labels: What the pointer shows of each mark.
    """

    name: str
    x: Numbers
    y: Numbers
    look: Look = "points"
    color: int = 0
    x_ends: tuple[tuple[float, float] | None, ...] = ()
    y_ends: tuple[tuple[float, float] | None, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Series over two axes; or, where there are `cells`, a heat map: (rows, columns), first on top.

    Attributes:
        title: What is to be seen.
        x: Horizontal axis.
        y: Vertical axis.
        series: What is drawn.
        cells: Values of a heat map, centred at 0.
        unit: What the values are.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    cells: tuple[Numbers, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Panel:
    """A table of text, and the chart that stands beside it."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    chart: Chart | None = None

    @property
    def is_wide(self) -> bool:
        """Whether a cell is so long that the table needs the whole width of a page."""
        return any(len(cell) > _LONG for row in self.rows for cell in row)


@dataclass(frozen=True)
class Section:
    """One result.

    Attributes:
        title: What kind of result it is.
        facts: What was measured, with which seeds and versions, by name.
        panels: Its charts with their tables.
        notes: What to know of it.
        network: Its network in the order of execution; () without.
        origin: Where it was read from, and when that was written.
    """

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()
    notes: tuple[str, ...] = ()
    network: tuple[DrawnNode, ...] = ()
    origin: str = ""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The charts of all panels."""
        return tuple(panel.chart for panel in self.panels if panel.chart is not None)


def axis_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Names as they stand at an axis: the middle of long ones is left out."""
    return tuple(shorten_middle(name, _LABEL) for name in names)
