"""Trained MLPs: the exponent while depth stays small against width, and beyond [JE]."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from etastar.experiments.declaration import Data, Family, Study, options
from etastar.experiments.initialization import StableInit
from etastar.experiments.network import ZooNetwork
from etastar.experiments.protocol import ADAM, SGD, Protocol
from etastar.report.evidence import Claim
from etastar.sweep.space import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etastar.experiments.declaration import OptimizerChoice, Scale

__all__ = ["study"]

_PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"), (1, 2, 4), Budget(2, 16), (0, 1), {"in_features": 64}, exhaustive=False
        ),
        "cpu": Protocol(
            Data("fashion-mnist", options(size=14)),
            (3, 6, 12, 24),
            Budget(100, 64),
            (0, 1, 2),
            {"in_features": 196},
        ),
        "paper": Protocol(
            Data("hf:cifar10"),
            (4, 8, 16, 32, 64, 128),
            Budget(390, 128),
            (0, 1, 2),
            {"in_features": 3072},
        ),
    }
)
_WIDTHS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {"smoke": (8, 16), "cpu": (24, 192), "paper": (64, 1024)}
)
"""Depth / width at the deepest: 1 and 1/8 (cpu), 2 and 1/8 (paper)."""

_START = 0.2


def study(scale: Scale) -> Study:
    """ReLU MLPs, narrow and wide, with SGD and Adam.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    narrow, wide = _WIDTHS[scale]
    families = (
        _family(scale, wide, SGD, _START),
        _family(scale, narrow, SGD, _START),
        _family(scale, wide, ADAM, _START / 100),
    )
    claims = (
        Claim("eta* ~ L^(-3/2), depth small against width", "[JE]", families[0].name, -1.5),
        Claim("the same, depth not small against width", "[JE]", families[1].name, -1.5),
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
            "The papers' law is of the first step; here the loss of a whole training run is "
            "minimized, which is what a user tunes.",
        ),
    )


def _family(scale: Scale, width: int, optimizer: OptimizerChoice, start: float) -> Family:
    protocol = _PROTOCOLS[scale]
    name = f"mlp width {width}, {optimizer.name}"
    return Family(
        name=name,
        group=name,
        network=ZooNetwork("mlp", options(width=width, **protocol.model)),
        data=protocol.data,
        optimizer=optimizer,
        budget=protocol.budget,
        sizes=protocol.sizes,
        bases=protocol.bases,
        targets=protocol.targets,
        search=protocol.search(start),
        seeds=protocol.seeds,
        initialization=StableInit(),
        axes=("effective-depth",),
    )
