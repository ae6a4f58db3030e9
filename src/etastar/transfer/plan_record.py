"""What a plan holds: settings at the base, laws as set, an entry for each parameter; its table."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.text import Text

from etastar.errors import PlanError
from etastar.formatting import interval, name_lines, number, shorten_middle
from etastar.laws import Factors  # needed at run time, to decode plan files
from etastar.optimizers import OptimizerKind
from etastar.parameter import Role  # the same
from etastar.typed import plain_number, set_numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


_MOST: Final = 1e6
"""Largest factor, and one over the smallest, on a learning rate or an initialization.

A rate a million times smaller moves a float32 weight by less than its rounding, 2^-23, in each step
of the size that was right at the base; no law is known to hold that far.
"""
ROUNDING: Final = 1e-6
"""Relative difference of numbers of a plan that are equal but for rounding."""
_HEAD = ("group", "lr", "weight decay", "eps", "init x")
_GAP = 2
_SHORTEST = 8  # letters of a group's label
_ASSUMED = ("initialization", "batch size", "steps", "schedule")

_BOUNDS: Final[dict[str, Any]] = {
    **{key: {"above": 0} for key in ("lr", "aux_lr", "init")},
    **{key: {"least": 0} for key in ("weight_decay", "eps", "log_lr_sd")},
    **{key: {"least": 1, "whole": True} for key in ("batch_size", "num_steps")},
    "depth": {"least": 0, "whole": True},
}


def require_settings(record: object, *, owner: str = "") -> None:
    """Make a frozen record's settings Python's numbers; refuse what none of them can be.

    Fields of the usual names are read; None stands for unknown, but for `lr`. `owner` is for the
    message.
    """
    for name, bounds in _BOUNDS.items():
        value = getattr(record, name, None)
        if value is not None or (name == "lr" and hasattr(record, name)):
            set_numbers(record, name, error=PlanError, owner=owner, **bounds)
    betas = getattr(record, "betas", None)
    if betas is None:
        return
    two = tuple(map(plain_number, betas)) if isinstance(betas, (tuple, list)) else ()
    if len(two) == 2 and all(beta is not None and 0 <= beta < 1 for beta in two):
        object.__setattr__(record, "betas", two)
    else:
        raise PlanError(
            f"betas={betas!r}{f' of {owner}' if owner else ''}",
            "two numbers of at least 0 and below 1",
            "give e.g. (0.9, 0.95)",
        )


@dataclass(frozen=True)
class LawRecord:
    """A law as it was applied: its name and its options, by name."""

    name: str
    options: tuple[tuple[str, float | str | None], ...] = ()

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}({options})" if options else self.name


@dataclass(frozen=True)
class BaseRecord:
    """The base that a plan starts from, with the settings tuned on it.

    Attributes:
        depth: Effective depth.
        lr: Learning rate.
        aux_lr: Learning rate of what Muon does not update; None for other optimizers.
        weight_decay: Weight decay.
        eps: Epsilon that the caller gave; None for the optimizer's default.
        betas: Betas that the caller gave; None likewise.
        batch_size: Examples in a batch; None if unknown.
        num_steps: Optimizer steps; None if unknown.
        log_lr_sd: Standard deviation of the logarithm of the rate; None if unknown.
    """

    depth: int
    lr: float
    aux_lr: float | None = None
    weight_decay: float = 0.0
    eps: float | None = None
    betas: tuple[float, float] | None = None
    batch_size: int | None = None
    num_steps: int | None = None
    log_lr_sd: float | None = None

    def __post_init__(self) -> None:
        require_settings(self, owner="the base")


@dataclass(frozen=True)
class InitializationRecord:
    """The initialization at which the plan's laws are at home.

    Attributes:
        residual: Branch weights to which `initialize_` gives 1 / K; "own" where the rate was tuned
            under the network's own initialization, which `initialize_` would replace.
    """

    residual: Literal["all", "last", "none", "own"] = "all"


@dataclass(frozen=True)
class ParamPlan:
    """Hyperparameters of one parameter.

    Attributes:
        name: Canonical name.
        shape: Shape at the target.
        role: Its role in the network.
        optimizer: Name of the optimizer's kind that updates it.
        lr: Learning rate.
        weight_decay: Weight decay, as the optimizer takes it.
        eps: Epsilon; None if the optimizer has none.
        init: Factor m on its values w right after initialization: w' = m (w + c) - c.
        factors: Name of each law and its factors, multipliers already folded in.
        aliases: Other names of the same tensor.
        betas: Betas; None if the optimizer has none.
        gain_offset: c; 1 for a gain that the network reads as 1 + w, 0 for anything else.

    Raises:
        PlanError: A number is none that an optimizer takes, or a factor is beyond a million.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    optimizer: str
    lr: float
    weight_decay: float
    eps: float | None
    init: float
    factors: tuple[tuple[str, Factors], ...]
    aliases: tuple[str, ...] = ()
    betas: tuple[float, float] | None = None
    gain_offset: float = 0.0

    def __post_init__(self) -> None:
        require_settings(self, owner=f"{self.name!r}, the base's times the laws' factors")
        for what, factor in (("learning rate", self.lr_multiplier), ("initialization", self.init)):
            if not 1 / _MOST <= factor <= _MOST:
                laws = " x ".join(name for name, _ in self.factors)
                raise PlanError(
                    f"{laws or 'no law'}: the {what} of {self.name!r} times {factor:.3g}",
                    f"a factor between {1 / _MOST:g} and {_MOST:g}",
                    "take a base nearer to the target, or another law",
                )
        if not math.isclose(
            self.init, math.prod(f.init for _, f in self.factors), rel_tol=ROUNDING
        ):
            raise PlanError(
                f"init={self.init} of {self.name!r}, which is not the product of its factors",
                "a plan as plan_transfer made it",
                "make the plan again",
            )

    @property
    def lr_multiplier(self) -> float:
        """Product of the laws' factors on the learning rate."""
        return math.prod(factors.lr for _, factors in self.factors)


@dataclass(frozen=True)
class GroupPlan:
    """Parameters that share every hyperparameter.

    Attributes:
        name: Number and roles, e.g. "0 hidden".
        optimizer: Name of the optimizer's kind.
        lr: Learning rate.
        lr_multiplier: Learning rate over the one that was tuned.
        weight_decay: Weight decay.
        eps: Epsilon; None where the optimizer's default is right.
        betas: Betas; None where the optimizer's defaults are right.
        factors: Name of each law and its factor on the learning rate.
        init: Factors on the values at initialization that occur in the group.
        parameters: Names.
    """

    name: str
    optimizer: str
    lr: float
    lr_multiplier: float
    weight_decay: float
    eps: float | None
    betas: tuple[float, float] | None
    factors: tuple[tuple[str, float], ...]
    init: tuple[float, ...]
    parameters: tuple[str, ...]


def group_parameters(
    entries: Iterable[ParamPlan], *, defaults: Mapping[str, OptimizerKind]
) -> tuple[GroupPlan, ...]:
    """Merge parameters of equal hyperparameters, in the order of their first appearance.

    Rates that differ by rounding alone (12 digits) are equal. `defaults` has for each optimizer's
    name the kind whose epsilon and betas need not be named.
    """
    merged: dict[tuple[object, ...], list[ParamPlan]] = {}
    for entry in entries:
        merged.setdefault(_key(entry), []).append(entry)
    return tuple(
        _group(place, members, defaults[members[0].optimizer])
        for place, members in enumerate(merged.values())
    )


def _key(entry: ParamPlan) -> tuple[object, ...]:
    betas = entry.betas or ()
    numbers = (entry.lr, entry.lr_multiplier, entry.weight_decay, entry.eps, *betas)
    return entry.optimizer, *(None if n is None else f"{n:.12g}" for n in numbers)


def _group(place: int, members: Sequence[ParamPlan], default: OptimizerKind) -> GroupPlan:
    first = members[0]
    roles = dict.fromkeys(entry.role for entry in members)
    return GroupPlan(
        name=f"{place} {', '.join(roles)}",
        optimizer=first.optimizer,
        lr=first.lr,
        lr_multiplier=first.lr_multiplier,
        weight_decay=first.weight_decay,
        eps=None if first.eps == default.eps else first.eps,
        betas=None if first.betas == default.betas else first.betas,
        factors=tuple((law, factors.lr) for law, factors in first.factors),
        init=tuple(sorted({entry.init for entry in members})),
        parameters=tuple(entry.name for entry in members),
    )


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


def _wrapped(texts: Iterable[str], width: int) -> Iterator[str]:
    """Lines that break between words alone; a name that is too long is shortened."""
    for text in texts:
        words = " ".join(shorten_middle(word, width) for word in text.split(" "))
        yield from textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
