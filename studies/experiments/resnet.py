"""Residual convolutional networks: branches, normalization, dropout, activations [AM] [WU]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from studies.declaration import Budget, Data, Parametrization, Study, ladder, options
from studies.initialization import StableInit
from studies.protocol import ADAM, SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Family, Scale

_PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"),
            ladder([1, 2, 4]),
            Budget(2, 8),
            (0, 1),
            options(width=4),
            exhaustive=False,
        ),
        "cpu": Protocol(
            Data("digits"), ladder([2, 4, 8, 16]), Budget(100, 32), (0, 1), options(width=16)
        ),
        "paper": Protocol(
            Data("hf:cifar10"),
            ladder([4, 8, 16, 32, 64]),
            Budget(390, 128),
            (0, 1, 2),
            options(width=64, in_channels=3, image_size=32),
        ),
    }
)
"""`paper`: one epoch of CIFAR-10 in batches of 128."""

_ONE = "one-layer 1/K"


def study(scale: Scale) -> Study:
    """One change at a time from ReLU, one-layer branches, variance 1/K, plain SGD.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    make = _PROTOCOLS[scale].family
    families = (
        make(_ONE, "resnet", optimizer=SGD, start=0.1),
        make(
            "one-layer 1/K^2",
            "resnet",
            optimizer=SGD,
            start=0.1,
            initialization=StableInit(power=2.0),
        ),
        make("with BatchNorm", "resnet", optimizer=SGD, start=0.1, batch_norm=True),
        make("with dropout", "resnet", optimizer=SGD, start=0.1, dropout=0.1),
        make("with GELU", "resnet", optimizer=SGD, start=0.1, activation="gelu"),
        make("two-layer 1/K", "resnet", optimizer=SGD, start=0.1, branch_layers=2),
        make("one-layer 1/K, Adam", "resnet", optimizer=ADAM, start=0.005),
        make("two-layer 1/K, Adam", "resnet", optimizer=ADAM, start=0.005, branch_layers=2),
        *_with_multipliers(_PROTOCOLS[scale]),
    )
    claims = (
        Claim("-3/2, variance 1/K", "[AM]", _ONE, -1.5),
        Claim("-3/2, variance 1/K^2", "[WU]", "one-layer 1/K^2", -1.5),
        Claim("-3/2, two-layer branches", "[AM]", "two-layer 1/K", -1.5),
        Claim("-3/2 with Adam", "[WU]", "one-layer 1/K, Adam", -1.5),
        Claim("-3/2 with Adam, two-layer branches", "[WU]", "two-layer 1/K, Adam", -1.5),
        Claim("BatchNorm does not move it", "[AM]", "with BatchNorm", 0.0, against=_ONE),
        Claim("dropout does not move it", "[AM]", "with dropout", 0.0, against=_ONE),
        Claim("GELU is steeper", "[AM]", "with GELU", 0.0, relation="below", against=_ONE),
        *(
            Claim(f"{name}: one rate for all depths", source, name, 0.0)
            for name, source in (
                ("depth-mup", "[TP6]"),
                ("depth-mup, Adam", "[TP6]"),
                ("two-layer complete-p", "[CP]"),
                ("two-layer complete-p, Adam", "[CP]"),
            )
        ),
    )
    return Study(
        name="resnet",
        title="Optimal learning rate of residual convolutional networks over depth",
        papers=(
            "[AM] arXiv 2510.04327",
            "[WU] arXiv 2602.07494",
            "[TP6] arXiv 2310.02244",
            "[CP] arXiv 2505.01618",
        ),
        scale=scale,
        families=families,
        claims=claims,
        notes=(
            "K is the number of residual blocks; 1/K stands on every weight of a branch. Width "
            "and image size are constant.",
            "depth-mup and complete-p: He without K times the law's multiplier relative to the "
            "smallest network; each in branches of the length that its paper is about. They were "
            "declared after the other families had been run, and before any run of their own.",
        ),
    )


def _with_multipliers(protocol: Protocol) -> Iterator[Family]:
    """Depth left to a law's branch multipliers."""
    for name, law, layers in (
        ("depth-mup", "depth-mup", 1),
        ("two-layer complete-p", "complete-p", 2),
    ):
        for optimizer, start, label in ((SGD, 0.1, ""), (ADAM, 0.005, ", Adam")):
            family = protocol.family(
                f"{name}{label}",
                "resnet",
                optimizer=optimizer,
                start=start,
                initialization=StableInit(residual="none"),
                branch_layers=layers,
            )
            yield replace(family, parametrization=Parametrization(law, base=protocol.sizes[0]))
