"""What a coordinate check gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from etastar.formatting import Shown, json_numbers, shorten_middle
from etastar.naming import name_template
from etastar.parameter import Role

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLUMNS, _LEAST_ROOM = 80, 12  # of a table, and for the name of a layer in it

Verdict = Literal["flat", "grows", "shrinks", "unclear"]
"""`unclear`: the seeds disagree by too much to say which of the others it is."""

Quantity = Literal["change", "size at initialization"]
INIT: Final[Quantity] = "size at initialization"

AxisKind = Literal["width", "depth"]
"""Whether the axis leaves the layers the same in number, or not."""


@dataclass(frozen=True)
class Trend:
    """How one quantity of a layer goes with the size: quantity = exp(a) size^exponent.

    Attributes:
        exponent: Mean over the steps of the exponents of the seeds' mean; infinite where it stops
            being finite at the largest size, NaN where it is zero at some sizes alone.
        interval: 95% interval by bootstrap over seeds; None with one seed.
        verdict: See `Verdict`.
        curves: Mean over seeds, (steps, sizes).
    """

    exponent: float
    interval: tuple[float, float] | None
    verdict: Verdict
    curves: tuple[tuple[float, ...], ...]

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.exponent:+.2f}"
        low, high = self.interval
        return f"{self.exponent:+.2f} [{low:+.2f}, {high:+.2f}]"


@dataclass(frozen=True)
class Remedy:
    """A setting of one parameter that does not follow the rule for this axis.

    Attributes:
        parameter: Its name at the largest size.
        setting: What does not follow.
        found: Ratio of the setting, largest to smallest size, as it was.
        wanted: The ratio that the rule gives.
    """

    parameter: str
    setting: Literal["learning rate", "initial size"]
    found: float
    wanted: float


@dataclass(frozen=True)
class LayerCheck:
    """The verdict on one layer, or on all layers of one kind over depth.

    Attributes:
        module: Module path; over depth with a star for every index.
        name: Its weights' names, "addition" for the residual stream, "attention logits".
        role: Role of its weights; None for the last two.
        init: Trend of its size before the first step.
        change: Trend of the size of z_t - z_0, over all steps.
        exception: Why a shrinking is none of a mistake, as muP has two; "" otherwise.
        parameters: Parameters whose step moves it, at the largest size.
        groups: The optimizer's parameter groups that these are in.
        remedies: Settings of them that do not follow the rule for this axis.
        advice: What would mend it; "" where nothing needs mending.
    """

    module: str
    name: str
    role: Role | None
    init: Trend
    change: Trend
    exception: str = ""
    parameters: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    advice: str = ""

    @property
    def quantity(self) -> Quantity:
        """What is judged: the change, or where that is flat, the size before the first step."""
        return INIT if self.change.verdict == "flat" else "change"

    @property
    def trend(self) -> Trend:
        """The trend of the quantity."""
        return self.init if self.quantity == INIT else self.change

    @property
    def verdict(self) -> Verdict:
        """The trend's verdict."""
        return self.trend.verdict

    @property
    def passed(self) -> bool:
        """Whether it is flat, or a known exception."""
        return self.verdict == "flat" or bool(self.exception)

    @property
    def note(self) -> str:
        """What fails, what would mend it and where it is set."""
        groups = ", ".join(self.groups) or "no group"
        return f"{self.quantity} {self.verdict}; {self.advice} (in {groups})"

    @property
    def title(self) -> str:
        """Its module, and what it is where that is no layer of weights."""
        module = self.module or "(root)"
        return f"{module} ({self.name})" if self.role is None else module

    @property
    def pattern(self) -> str:
        """What it is and its note, with a star for every index."""
        title = self.title.replace(self.module, name_template(self.module), 1)
        return f"{title}: {name_template(self.note)}"

    def as_dict(self) -> dict[str, Any]:
        """The verdict and the fields as plain data."""
        judged = {"passed": self.passed, "verdict": self.verdict, "quantity": self.quantity}
        return {**judged, **asdict(self)}


@dataclass(frozen=True)
class AxisCheck:
    """The layers along one axis, the other settings at their first value.

    Attributes:
        axis: Name of the setting that varies.
        kind: Whether it is one of width or of depth.
        sizes: Its values, ascending.
        layers: The verdicts, in the order of execution at the largest size.
        unmatched: Layers that some sizes lack, so that there is no verdict on them.
    """

    axis: str
    kind: AxisKind
    sizes: tuple[int, ...]
    layers: tuple[LayerCheck, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every layer is flat or a known exception."""
        return all(layer.passed for layer in self.layers)

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        title = f"exponents in {self.axis} = {', '.join(map(str, self.sizes))} ({self.kind})"
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        table.add_column("layer", overflow="fold")
        table.add_column("size at init", justify="right", no_wrap=True)
        table.add_column("change", justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        rows = [
            (str(one.init), str(one.change), one.verdict + " (expected)" * bool(one.exception))
            for one in self.layers
        ]
        room = _COLUMNS - 1 - sum(max(map(len, column)) + 1 for column in zip(*rows, strict=True))
        for layer, row in zip(self.layers, rows, strict=True):
            title = shorten_middle(layer.title, max(room, _LEAST_ROOM))
            table.add_row(title, *row, style=None if layer.passed else "red")
        return Group(Text(), table, *map(Text, self._notes()))

    def _notes(self) -> list[str]:
        failed: dict[str, list[LayerCheck]] = {}  # those that differ in an index alone, together
        for layer in self.layers:
            if not layer.passed:
                failed.setdefault(layer.pattern, []).append(layer)
        lines = [
            f"{layers[0].title}: {layers[0].note}" if len(layers) == 1 else text
            for text, layers in failed.items()
        ]
        excepted: dict[str, list[str]] = {}
        for layer in self.layers:
            if layer.exception:
                excepted.setdefault(layer.exception, []).append(layer.title)
        lines += [f"expected: {', '.join(names)}: {reason}" for reason, names in excepted.items()]
        if self.unmatched:
            lines.append(f"not at every size, without a verdict: {', '.join(self.unmatched)}")
        return lines


@dataclass(frozen=True)
class CoordinateReport(Shown):
    """Whether pre-activations and their changes keep their size over width and depth.

    Attributes:
        axes: One check for each axis.
        num_steps: Steps of the optimizer.
        seeds: The seeds.
    """

    axes: tuple[AxisCheck, ...]
    num_steps: int
    seeds: tuple[int, ...]

    @property
    def passed(self) -> bool:
        """Whether every layer of every axis is flat or a known exception."""
        return all(axis.passed for axis in self.axes)

    @property
    def failures(self) -> tuple[LayerCheck, ...]:
        """The layers that are not."""
        return tuple(layer for axis in self.axes for layer in axis.layers if not layer.passed)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON: None for what is not finite."""
        axes = [
            {
                "passed": axis.passed,
                **asdict(axis),
                "layers": [layer.as_dict() for layer in axis.layers],
            }
            for axis in self.axes
        ]
        whole = {"passed": self.passed, "num_steps": self.num_steps, "seeds": self.seeds}
        found: dict[str, Any] = json_numbers({**whole, "axes": axes})
        return found

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        failures = len(self.failures)
        verdict = "passed" if self.passed else f"failed: {failures} layers depend on the size"
        steps = f"{self.num_steps} steps, {len(self.seeds)} seeds"
        return Group(Text(f"{verdict} ({steps})", style="bold"), *self.axes)
