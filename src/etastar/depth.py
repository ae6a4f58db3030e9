"""The depth report: effective depth and the statistics of all paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from etastar.formatting import Shown, name_pattern, shorten_middle

_SHOWN = 16  # rows of the path, before the middle is left out
_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")  # in "layers.3.mlp.fc"
_ATTRIBUTE_INDEX = re.compile(r"(?<=[^.\d])\d+(?![^.])")  # in "block3.mlp.fc"
_LINE = 80  # characters


CountedAs = Literal["weight layer", "residual addition"]


@dataclass(frozen=True)
class PathStep:
    """One counted node on a path: the module it ran in, what it counted as, its operation."""

    module: str
    counted_as: CountedAs
    op: str


@dataclass(frozen=True)
class DepthReport(Shown):
    """Effective depth of a network and the statistics of its paths [WU] [CH].

    A path is a distinct sequence of counted nodes (weight layers and residual additions) from a
    source to an output; M_k = sum over paths of length^k.

    Attributes:
        effective_depth: Fewest counted nodes on a path from a source to an output.
        path: A shortest path, in order.
        longest_path: Most counted nodes on a path.
        residual_additions: Counted additions that lie on some path.
        weight_layers: Weight layers that lie on some path.
        path_count: Number of paths, M_0.
        path_length_moments: M_0 to M_3, exact integers.
        layer_longest_path: Most weight layers on a path.
        layer_path_length_moments: M_0 to M_3 with weight layers alone counted.
        tied: Parameters that serve an embedding and a projection, by name.
        recurrent: Parameters applied again on one path, by name; the laws do not cover them.
        stacked: Parameters that hold the weights of several layers, as slices; of how many each.
        unused_parameters: Parameters of two or more dimensions that no operation on an activation
            consumed: a part of the model was not executed, as an expert that got no token.
        sources: Names of the inputs that count as data.
        outputs: Names of the outputs that were taken.
        matrix: `matrix[input][output]`: fewest counted nodes between them, None if unconnected.
        capture: Whether the graph was traced on fake tensors or on real ones.
        capture_note: Why real tensors were needed; None for fake.
        notes: What the numbers do not show: layers that the shortest path by-passes or that were
            skipped by chance, inputs that disagree, loops over positions.
        bypassed_layers: Number of weight layers that the shortest path by-passes, with which the
            effective depth need not grow.
        bypassed_by_sums: Of these, by sums with an earlier state of the stream, as `x + mu x0`: no
            law in the effective depth covers that. The others are by-passed by concatenations.
        seconds: Time that capture and analysis took.
    """

    effective_depth: int
    path: tuple[PathStep, ...]
    longest_path: int
    residual_additions: int
    weight_layers: int
    path_count: int
    path_length_moments: tuple[int, int, int, int]
    layer_longest_path: int
    layer_path_length_moments: tuple[int, int, int, int]
    tied: tuple[str, ...] = ()
    recurrent: tuple[str, ...] = ()
    stacked: Mapping[str, int] = field(default_factory=dict)
    unused_parameters: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    matrix: dict[str, dict[str, int | None]] = field(default_factory=dict)
    capture: Literal["fake", "real"] = "fake"
    capture_note: str | None = None
    notes: tuple[str, ...] = ()
    bypassed_layers: int = 0
    bypassed_by_sums: int = 0
    seconds: float = 0.0

    def __rich__(self) -> Group:
        """Numbers, the shortest path, and what to know about it."""
        notes = (Text(note) for note in _notes(self))
        heading = Text(f"\nshortest path: {_shares(self.path)}")
        return Group(_numbers(self), heading, _path(self.path), *notes)


def integer_text(value: int, digits: int = 9) -> str:
    """All digits of a short integer, the size of a long one."""
    written = str(value)
    if len(written) <= digits:
        return f"{value:,}"
    return f"{written[0]}.{written[1:4]}e{len(written) - 1}"


def _numbers(report: DepthReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    rows: dict[str, str | Text] = {
        "effective depth": Text(str(report.effective_depth), "bold"),
        "weight layers": str(report.weight_layers),
        "residual additions": str(report.residual_additions),
        "longest path": f"{report.longest_path} ({report.layer_longest_path} layers)",
        "paths": integer_text(report.path_count, digits=24),
        "moments M0..M3": "  ".join(map(integer_text, report.path_length_moments)),
        "layers alone": "  ".join(map(integer_text, report.layer_path_length_moments)),
        "from": shorten_middle(name_pattern(report.sources), 58),
        "to": shorten_middle(name_pattern(report.outputs), 58),
        "captured on": f"{report.capture} tensors, {report.seconds:.2f} s",
    }
    for heading, text in rows.items():
        table.add_row(heading, text)
    return table


_Steps = Sequence[tuple[str, PathStep]]
"""Steps, each with what its module is called within the modules around it."""


@dataclass(frozen=True)
class _Row:
    """Consecutive steps in one module, or in `count` modules that are alike but for their index."""

    module: str
    count: int
    steps: _Steps
    """Of the first of these modules."""

    def __len__(self) -> int:
        return self.count * len(self.steps)

    def label(self) -> str:
        count = f" ({self.count})" if self.count > 1 else ""
        return shorten_middle(self.module or "(root)", 40 - len(count)) + count

    def content(self) -> str:
        """What is counted: layers by their names within the module, "+" for an addition."""
        if len(self.steps) == 1 and self.steps[0][1].counted_as == "residual addition":
            return "residual addition"
        words = []
        for word, run in groupby(_word(*step) for step in self.steps):
            number = len(list(run))
            words += [word] * number if number < 3 else [f"{number} x {word}"]
        return ", ".join(words)


def _word(name: str, step: PathStep) -> str:
    if step.counted_as == "residual addition":
        return "+"
    # "aten.addmm.default" without what is the same everywhere
    op = step.op.removeprefix("aten.").removesuffix(".default")
    return name or f"weight layer ({op})"


def _split(name: str) -> tuple[str, str, str]:
    """The outermost repeated module of a name, its index, and the name within it."""
    found = _INDEX.search(name) or _ATTRIBUTE_INDEX.search(name)
    if found is None:
        return name, "", ""
    before, index, rest = name[: found.start()], found.group(), name[found.end() + 1 :]
    return f"{before}*", index, rest


def _rows(steps: _Steps, prefix: str = "") -> Iterator[_Row]:
    """Steps folded: neighbours whose modules are alike are one row, and so within each."""
    modules = [
        (module, index, [(_split(name)[2], step) for name, step in run])
        for (module, index), run in groupby(steps, key=lambda step: _split(step[0])[:2])
    ]

    def kind(module: tuple[str, str, _Steps]) -> tuple[object, ...]:
        # the same layers and additions; an operation (a convolution as a product) may differ
        return module[0], tuple((name, step.counted_as) for name, step in module[2])

    for _, run in groupby(modules, key=kind):
        alike = list(run)
        pattern, index, inside = alike[0]
        if len(alike) > 1:
            yield _Row(prefix + pattern, len(alike), inside)
            continue
        module = prefix + pattern.replace("*", index)
        within = list(_rows(inside, f"{module}.")) if index else []
        if any(row.count > 1 for row in within):
            yield from within
        else:
            yield _Row(module.removesuffix("."), 1, inside)


def _path(path: tuple[PathStep, ...]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = list(_rows([(step.module, step) for step in path]))
    head = len(rows) if len(rows) <= _SHOWN else _SHOWN // 2
    end = 0
    for number, row in enumerate(rows):
        begin, end = end + 1, end + len(row)
        if number < head or number >= len(rows) - head:
            place = str(begin) if begin == end else f"{begin}-{end}"
            table.add_row(place, Text(row.label()), Text(row.content()))
        elif number == head:
            table.add_row("...", f"{len(rows) - 2 * head} rows more", "")
    return table


def _shares(path: tuple[PathStep, ...]) -> str:
    """How many of its steps are layers, and how many additions."""
    additions = sum(step.counted_as == "residual addition" for step in path)
    layers = f"{len(path) - additions} weight layers"
    return f"{layers} and {additions} residual additions (+)" if additions else layers


def _notes(report: DepthReport) -> list[str]:
    lines: tuple[tuple[str, Iterable[str], str], ...] = (
        ("tied", report.tied, "one table serves embedding and projection"),
        (
            "recurrent",
            report.recurrent,
            "applied again on one path: the depth laws do not cover it",
        ),
        (
            "stacked",
            report.stacked,
            "each holds the weights of several layers: no plan takes it",
        ),
        ("unused", report.unused_parameters, "no operation on an activation read them"),
    )
    notes = [
        f"\n{what}: {shorten_middle(name_pattern(names), _LINE - len(what) - 2)}\n  ({why})"
        for what, names, why in lines
        if names
    ]
    said = (report.capture_note, *report.notes)
    return notes + [f"\nnote: {note}" for note in said if note]
