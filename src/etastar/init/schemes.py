"""What an initialization is asked to do, and what it did to each parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from etastar.errors import InitError
from etastar.formatting import Shown, number, shorten_middle
from etastar.naming import name_template
from etastar.typed import require_number, require_type

if TYPE_CHECKING:
    from rich.console import Group

_WIDTH = 36  # characters of a pattern of names

Scheme = Literal["he", "in-degree", "edge-of-chaos"]
"""`he`: g / fan_in; `in-degree`: the same over the number of summed branches [CH];
`edge-of-chaos`: the critical sigma_w^2 / fan_in, with biases of variance sigma_b^2."""

ResidualRule = Literal["all", "last", "none"]
"""Which weights of a residual branch carry 1 / K [AM]: all, the last one, none."""

Readout = Literal["standard", "mup", "zero"]
"""Output weights: as the scheme says, variance 1 / fan_in^2 [TP5], or zero."""

Action = Literal["normal", "zero", "one", "follows", "kept"]
"""`normal`: drawn; `zero`, `one`: set; `follows`: set through the effective weight that it is part
of; `kept`: left as it was, for the reason given."""


@dataclass(frozen=True)
class InitSettings:
    """Options of an initialization.

    Attributes:
        scheme: See `Scheme`.
        residual: See `ResidualRule`.
        readout: See `Readout`.
        seed: Seed of the generator; the global one is never used.
        exclude: Patterns of names to leave alone, `*` and `?` as in file names.
        only: Patterns of names to set alone; all where there are none.

    Raises:
        InitError: If an option is unknown, or a pattern is no text.

    Example:
        >>> InitSettings(scheme="he").residual
        'all'
    """

    scheme: Scheme = "he"
    residual: ResidualRule = "all"
    readout: Readout = "standard"
    seed: int = 0
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_type("scheme", self.scheme, Scheme, error=InitError)
        require_type("residual", self.residual, ResidualRule, error=InitError)
        require_type("readout", self.readout, Readout, error=InitError)
        require_number("seed", self.seed, error=InitError, whole=True)
        for option in ("exclude", "only"):
            given: Any = getattr(self, option)
            is_one = isinstance(given, (str, Mapping)) or not isinstance(given, Iterable)
            listed = (given,) if is_one else tuple(given)
            if strange := [p for p in listed if not isinstance(p, str)]:
                raise InitError(
                    f"{option}={strange[0]!r}",
                    "a pattern of parameter names, or a sequence of them",
                    f"write {option}=['*lora_*', 'head.weight'] or the like",
                )
            object.__setattr__(self, option, listed)

    def leaves_out(self, names: Iterable[str]) -> str | None:
        """Why a parameter, by all of its names, is not to be set; None if it is."""
        known = tuple(names)
        if any(fnmatchcase(name, p) for p in self.exclude for name in known):
            return "left out by exclude"
        if self.only and not any(fnmatchcase(name, p) for p in self.only for name in known):
            return "not named by only"
        return None

    def require_matches(self, names: Collection[str]) -> None:
        """Refuse a pattern that fits none of all names: it would be dropped silently."""
        for option in ("exclude", "only"):
            for pattern in getattr(self, option):
                if not any(fnmatchcase(name, pattern) for name in names):
                    raise InitError(
                        f"{option}={pattern!r}, which fits no parameter",
                        "patterns of names like " + ", ".join(map(repr, list(names)[:3])),
                        "write * for what varies, as in '*.bias', or leave the pattern out",
                    )


@dataclass(frozen=True)
class ParamInit:
    """What happens to one parameter.

    Attributes:
        name: Canonical name.
        action: See `Action`.
        std: Standard deviation of what is drawn; None unless `action` is "normal".
        gain: g(phi), or sigma_w^2; 1 where none applies.
        factor: What residual and in-degree rules multiply the variance with.
        fan_in: Terms summed into one output unit.
        why: The rule that was applied, or the reason that none was.
        effective: Path of the parametrized tensor that is set in its place; None if it is plain.
    """

    name: str
    action: Action
    std: float | None = None
    gain: float = 1.0
    factor: float = 1.0
    fan_in: int = 1
    why: str = ""
    effective: str | None = None


@dataclass(frozen=True)
class InitReport(Shown):
    """What an initialization did, parameter by parameter.

    Attributes:
        settings: The options.
        entries: One for each parameter, in the order of the model.

    Example:
        >>> entries = (ParamInit(f"{i}.w", "normal", std=0.5, why="gain 2") for i in (0, 1))
        >>> print(InitReport(InitSettings(), tuple(entries)))
        scheme he, residual all, readout standard, seed 0
        parameters  set to   why
        *.w (2)     std 0.5  gain 2
    """

    settings: InitSettings
    entries: tuple[ParamInit, ...]

    def __getitem__(self, name: str) -> ParamInit:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(name)

    @property
    def kept(self) -> tuple[ParamInit, ...]:
        """The parameters that no rule covered, and were left as they were."""
        return tuple(entry for entry in self.entries if entry.action == "kept")

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        s = self.settings
        head = f"scheme {s.scheme}, residual {s.residual}, readout {s.readout}, seed {s.seed}"
        table = Table(box=None, pad_edge=False)
        table.add_column("parameters", no_wrap=True)
        table.add_column("set to", no_wrap=True)
        table.add_column("why", overflow="fold")
        outcomes = Counter(
            (name_template(e.name), e.action if e.std is None else f"std {number(e.std)}", e.why)
            for e in self.entries
        )
        for (pattern, outcome, why), count in outcomes.items():
            times = f" ({count})" if count > 1 else ""
            name = shorten_middle(pattern, _WIDTH - len(times)) + times
            table.add_row(Text(name), outcome, Text(why))
        return Group(Text(head), table)
