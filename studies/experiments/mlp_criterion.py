"""The criterion of MLPs at initialization: its exponent in depth, and that width does not matter.

Nothing is trained: eta* is measured on the first step [JE].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from studies.declaration import Budget, CriterionFamily, Data, Study, ladder, options, size
from studies.initialization import StableInit
from studies.protocol import SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Scale

_ONE_EXAMPLE = Budget(1, 1)
_PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(Data("digits"), ladder([2, 4, 8]), _ONE_EXAMPLE, tuple(range(4))),
        "cpu": Protocol(Data("digits"), ladder([8, 16, 32, 64]), _ONE_EXAMPLE, tuple(range(32))),
        "paper": Protocol(
            Data("hf:cifar10"),
            ladder([8, 16, 32, 64, 128, 256]),
            _ONE_EXAMPLE,
            tuple(range(100)),
            options(in_features=3072),
        ),
    }
)
_NARROW_AND_WIDE: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {"smoke": (8, 32), "cpu": (64, 512), "paper": (256, 4096)}
)
_WIDTHS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {"smoke": (8, 16, 32), "cpu": (128, 256, 512, 1024), "paper": (256, 512, 1024, 2048, 4096)}
)
"""At the fixed depth, which is small against all of them above smoke."""

_FIXED_DEPTH = 4


def study(scale: Scale) -> Study:
    """ReLU MLPs, linear loss, one example, mean over seeds.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    protocol = _PROTOCOLS[scale]
    narrow, wide = _NARROW_AND_WIDE[scale]
    deep = [
        CriterionFamily(
            protocol.family(
                f"{label} ({width}), over depth", "mlp", optimizer=SGD, start=1.0, width=width
            )
        )
        for label, width in (("wide", wide), ("narrow", narrow))
    ]
    over_width = replace(
        protocol.family("hidden weights, over width", "mlp", optimizer=SGD, start=1.0),
        sizes=tuple(size(depth=_FIXED_DEPTH, width=width) for width in _WIDTHS[scale]),
        bases=(),
        targets=(),
        axes=("width",),
        initialization=StableInit(readout="mup"),
    )
    return Study(
        name="mlp-criterion",
        title="The maximal-update learning rate of ReLU MLPs at initialization",
        papers=("[JE] arXiv 2305.07810",),
        scale=scale,
        families=(*deep, CriterionFamily(over_width, weights="hidden")),
        claims=(
            Claim("-3/2 while depth is small against width", "[JE]", deep[0].name, -1.5),
            Claim("the same where depth is not small", "[JE]", deep[1].name, -1.5),
            Claim(
                "eta* of hidden weights does not depend on width",
                "[JE]",
                over_width.name,
                0.0,
                axis="width",
            ),
        ),
        notes=(
            "eta* is the rate whose first step changes the pre-activations by 1 in mean square "
            "(the column loss holds that 1). Over width the readout has variance 1/fan-in^2 and "
            "the hidden weights alone are stepped.",
        ),
    )
