"""What an initialization is asked to do, and what it did to each parameter."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from etastar.errors import InitError
from etastar.formatting import Shown, number, shorten_middle
from etastar.naming import name_template
from etastar.typed import require_number

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Action", "InitReport", "InitSettings", "ParamInit", "Readout", "ResidualRule", "Scheme"]

_WIDTH = 36  # characters of a pattern of names

Scheme = Literal["he", "in-degree", "edge-of-chaos"]
"""`he`: g / fan_in; `in-degree`: the same over the number of summed branches [CH];
`edge-of-chaos`: the critical sigma_w^2 / fan_in."""

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
        bias_variance: sigma_b^2 of the edge of chaos; 0 for every other scheme.

    Raises:
        InitError: If an option is unknown or does not go with the scheme.

    Example:
        >>> InitSettings(scheme="he").residual
        'all'
    """

    scheme: Scheme = "he"
    residual: ResidualRule = "all"
    readout: Readout = "standard"
    seed: int = 0
    bias_variance: float = 0.0

    def __post_init__(self) -> None:
        _check_choice("scheme", self.scheme, get_args(Scheme))
        _check_choice("residual", self.residual, get_args(ResidualRule))
        _check_choice("readout", self.readout, get_args(Readout))
        require_number("seed", self.seed, error=InitError, whole=True)
        require_number("bias_variance", self.bias_variance, error=InitError, least=0)
        if self.bias_variance and self.scheme != "edge-of-chaos":
            raise InitError(
                f"bias_variance={self.bias_variance} with scheme {self.scheme!r}",
                "biases of zero, which this scheme assumes",
                "leave bias_variance out, or use scheme 'edge-of-chaos'",
            )


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InitError(
            f"{option} {value!r}", "one of: " + ", ".join(choices), f"choose a listed {option}"
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
