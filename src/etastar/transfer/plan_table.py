"""A plan as a table: some lines for each group of equal hyperparameters, at any width."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from etastar.formatting import interval, name_lines, number, shorten_middle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from etastar.transfer.plan_record import GroupPlan

__all__ = ["PlanView"]

_HEAD = ("group", "lr", "weight decay", "eps", "init x")
_GAP = 2
_SHORTEST = 8  # letters of a group's label
_ASSUMED = ("initialization", "batch size", "steps", "schedule")


@dataclass(frozen=True)
class PlanView:
    """A plan as text that never cuts a number and fits a line where its numbers do.

    Attributes:
        title: What the plan is, in sentences.
        groups: Its groups.
        notes: Its notes.
        eps: Epsilon of each group; None of an optimizer that has none.
        followed: What the laws follow where it is not the same: "batch size", "steps".
    """

    title: tuple[str, ...]
    groups: tuple[GroupPlan, ...]
    eps: tuple[float | None, ...]
    notes: tuple[str, ...] = ()
    followed: frozenset[str] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines(options.max_width):
            yield Text(line, no_wrap=True, overflow="ignore")

    def _lines(self, width: int) -> Iterator[str]:
        yield from _wrapped(self.title, width)
        yield ""
        rows = [_HEAD, *map(self._row, self.groups, self.eps)]
        widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[1:]]
        room = max(_SHORTEST, width - sum(widths) - _GAP * len(widths))
        label_width = min(room, max(len(row[0]) for row in rows))
        for number_of_row, (label, *cells) in enumerate(rows):
            shown = "".join(f"{c:>{w + _GAP}}" for c, w in zip(cells, widths, strict=True))
            yield f"{shorten_middle(label, label_width):<{label_width}}{shown}"
            if number_of_row:
                yield from _details(self.groups[number_of_row - 1], width)
        yield ""
        *alike, last = (what for what in _ASSUMED if what not in self.followed)
        assumes = f"assumes: lr tuned at the base under the same {', '.join(alike)} and {last}"
        yield from _wrapped((*(f"note: {note}" for note in self.notes), assumes), width)

    def _row(self, group: GroupPlan, eps: float | None) -> tuple[str, ...]:
        several = len({g.optimizer for g in self.groups}) > 1
        label = f"{group.name} ({group.optimizer})" if several else group.name
        low, high = group.init[0], group.init[-1]
        return (
            label,
            number(group.lr),
            number(group.weight_decay),
            "-" if eps is None else number(eps),
            number(low) if low == high else interval(low, high),
        )


def _details(group: GroupPlan, width: int) -> Iterator[str]:
    """The parameters as patterns; above, how their rate came about, where there is more to say."""
    factors = [f"{number(factor)} ({law})" for law, factor in group.factors if factor != 1]
    parts = [f"lr x {' x '.join(factors)}"] if factors else []
    if group.betas is not None:
        parts.append(f"betas {number(group.betas[0])} and {number(group.betas[1])}")
    if parts:
        yield from (f"  {line}" for line in _wrapped(["; ".join(parts)], width - 2))
    yield from (f"  {line}" for line in name_lines(group.parameters, max(4, width - 2)))


def _wrapped(texts: Sequence[str] | Iterable[str], width: int) -> Iterator[str]:
    """Lines that break between words alone; a name that is too long is shortened."""
    for text in texts:
        words = " ".join(shorten_middle(word, width) for word in text.split(" "))
        yield from textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
