"""Trained MLPs: the exponent while depth stays small against width, and beyond [JE]."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from studies.declaration import Budget, Data, Study, ladder, options
from studies.protocol import ADAM, SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Scale

_PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"), ladder([1, 2, 4]), Budget(2, 16), (0, 1), exhaustive=False
        ),
        "cpu": Protocol(
            Data("fashion-mnist", options(size=14)),
            ladder([3, 6, 12, 24]),
            Budget(100, 64),
            (0, 1, 2),
            options(in_features=196),
        ),
        "paper": Protocol(
            Data("hf:cifar10"),
            ladder([4, 8, 16, 32, 64, 128]),
            Budget(390, 128),
            (0, 1, 2),
            options(in_features=3072),
        ),
    }
)
"""`paper`: one epoch of CIFAR-10 in batches of 128."""

_WIDTHS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {"smoke": (8, 16), "cpu": (24, 192), "paper": (64, 1024)}
)
"""Narrow and wide; depth / width at the deepest is 1 and 1/8 (cpu), 2 and 1/8 (paper)."""


def study(scale: Scale) -> Study:
    """ReLU MLPs, narrow and wide, with SGD and Adam.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    protocol = _PROTOCOLS[scale]
    narrow, wide = _WIDTHS[scale]
    families = (
        protocol.family(f"wide ({wide}), SGD", "mlp", optimizer=SGD, start=0.2, width=wide),
        protocol.family(f"narrow ({narrow}), SGD", "mlp", optimizer=SGD, start=0.2, width=narrow),
        protocol.family(f"wide ({wide}), Adam", "mlp", optimizer=ADAM, start=0.002, width=wide),
    )
    claims = (
        Claim("-3/2 while depth is small against width", "[JE]", families[0].name, -1.5),
        Claim("the same where depth is not small", "[JE]", families[1].name, -1.5),
        Claim("the same with Adam", "[WU]", families[2].name, -1.5),
    )
    return Study(
        name="mlp-trained",
        title="Optimal learning rate of trained ReLU MLPs over depth",
        papers=("[JE] arXiv 2305.07810", "[WU] arXiv 2602.07494"),
        scale=scale,
        families=families,
        claims=claims,
        notes=(
            "The papers derive the law for the first step; here the mean loss of a whole run is "
            "minimized, which is what a user tunes.",
        ),
    )
