"""Deep linear residual networks whose branches are scaled by 1/sqrt(depth) [DL]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from studies.declaration import Budget, Data, Study, ladder, options
from studies.initialization import StableInit
from studies.network import ZooNetwork
from studies.protocol import ADAM, SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Family, Scale

_PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"),
            ladder([1, 2, 4]),
            Budget(2, 16),
            (0, 1),
            options(width=8, activation="identity"),
            exhaustive=False,
        ),
        "cpu": Protocol(
            Data("digits"),
            ladder([2, 4, 8, 16]),
            Budget(100, 64),
            (0, 1),
            options(width=64, activation="identity"),
        ),
        "paper": Protocol(
            Data("hf:cifar10"),
            ladder([4, 8, 16, 32, 64, 128]),
            Budget(390, 128),
            (0, 1, 2),
            options(width=1024, in_features=3072, activation="identity"),
        ),
    }
)


def study(scale: Scale) -> Study:
    """Branches scaled by 1/sqrt(depth) in the forward pass, and not at all; SGD and Adam.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    families = tuple(one for optimizer in (SGD, ADAM) for one in _pair(scale, optimizer.name))
    return Study(
        name="deep-linear",
        title="Optimal learning rate of deep linear residual networks over depth",
        papers=("[DL] arXiv 2502.02531",),
        scale=scale,
        families=families,
        claims=(
            Claim("SGD, 1/sqrt(depth): one rate for all depths", "[DL]", "SGD, scaled", 0.0),
            Claim("the same with Adam", "[DL]", "Adam, scaled", 0.0),
            Claim(
                "SGD without the scale: falls with depth",
                "[DL]",
                "SGD, plain",
                0.0,
                relation="below",
            ),
        ),
        notes=("Cross-entropy on real data; the paper's theory is of the squared error.",),
    )


def _pair(scale: Scale, optimizer: str) -> Iterator[Family]:
    protocol = _PROTOCOLS[scale]
    label, chosen, start = {"sgd": ("SGD", SGD, 0.1), "adam": ("Adam", ADAM, 0.003)}[optimizer]
    plain = protocol.family(
        f"{label}, plain",
        "resmlp",
        optimizer=chosen,
        start=start,
        initialization=StableInit(residual="none"),
    )
    scaled = ZooNetwork("resmlp", protocol.model, branch_power=-0.5)
    yield replace(plain, name=f"{label}, scaled", group=f"{label}, scaled", network=scaled)
    yield plain
