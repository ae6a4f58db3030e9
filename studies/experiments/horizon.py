"""Exponents and regret against training length, and depth exponents at several widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from studies.declaration import Budget, Data, Study, ladder, options
from studies.protocol import SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Family, Scale

_PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"), ladder([1, 2, 4]), Budget(2, 16), (0, 1), exhaustive=False
        ),
        "cpu": Protocol(
            Data("fashion-mnist", options(size=14)),
            ladder([2, 4, 8, 16]),
            Budget(100, 32),
            (0, 1),
            options(in_features=196),
        ),
        "paper": Protocol(
            Data("hf:cifar10"),
            ladder([4, 8, 16, 32, 64]),
            Budget(390, 128),
            (0, 1, 2),
            options(in_features=3072),
        ),
    }
)
_LENGTHS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {"smoke": (2, 3, 4), "cpu": (100, 300, 1000), "paper": (390, 3900, 39_000)}
)
"""Optimizer steps; `paper`: one, ten and a hundred epochs."""

_LONGEST_DEPTHS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {"smoke": (1, 2, 4), "cpu": (2, 4, 8), "paper": (4, 8, 16, 32, 64)}
)
"""At the longest training; what a CPU can do in minutes ends there."""

_WIDTHS: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {"smoke": (8, 4, 16), "cpu": (64, 16, 256), "paper": (256, 64, 1024)}
)
"""The width of all lengths, then the two at which the shortest is trained as well."""


def study(scale: Scale) -> Study:
    """A chain and a residual network at three lengths and three widths.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    families = (*_series(scale, "mlp", "MLP"), *_series(scale, "resmlp", "residual MLP"))
    return Study(
        name="horizon",
        title="Depth exponents against training length and width",
        papers=("[JE] arXiv 2305.07810", "[WU] arXiv 2602.07494"),
        scale=scale,
        families=families,
        claims=tuple(Claim(f"{one.name}: -3/2", "[WU]", one.name, -1.5) for one in families),
        notes=(
            "The papers train for one epoch and name that as their limit; what they say of the "
            "exponent is set beside every length here.",
        ),
    )


def _series(scale: Scale, zoo: str, label: str) -> Iterator[Family]:
    protocol = _PROTOCOLS[scale]
    middle, *others = _WIDTHS[scale]
    shortest, *longer = _LENGTHS[scale]
    for width in (middle, *others):
        name = f"{label} {width}, {shortest} steps"
        family = protocol.family(name, zoo, optimizer=SGD, start=0.2, width=width)
        yield replace(family, budget=replace(protocol.budget, num_steps=shortest))
    for length in longer:
        sizes = ladder(_LONGEST_DEPTHS[scale]) if length == longer[-1] else protocol.sizes
        chosen = replace(protocol, sizes=sizes, budget=replace(protocol.budget, num_steps=length))
        name = f"{label} {middle}, {length} steps"
        yield chosen.family(name, zoo, optimizer=SGD, start=0.2, width=middle)
