"""Plain convolutional chains over sequences and over images: activation, padding, kernel [AM]."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from studies.declaration import Budget, Data, Study, ladder, options
from studies.protocol import SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Options, Scale

_DATA: Final[Mapping[str, Data]] = MappingProxyType(
    {"smoke": Data("digits"), "cpu": Data("digits"), "paper": Data("hf:cifar10")}
)
_BUDGETS: Final[Mapping[tuple[str, str], Budget]] = MappingProxyType(
    {
        ("cnn1d", "smoke"): Budget(2, 8),
        ("cnn2d", "smoke"): Budget(2, 8),
        ("cnn1d", "cpu"): Budget(100, 16),
        ("cnn2d", "cpu"): Budget(100, 32),
        ("cnn1d", "paper"): Budget(390, 128),
        ("cnn2d", "paper"): Budget(390, 128),
    }
)
"""`paper`: one epoch of CIFAR-10 in batches of 128."""

_DEPTHS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {"smoke": (1, 2, 4), "cpu": (2, 4, 8, 16), "paper": (4, 8, 16, 32, 64)}
)
_SEEDS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {"smoke": (0, 1), "cpu": (0, 1), "paper": (0, 1, 2)}
)
_WIDTHS: Final[Mapping[str, int]] = MappingProxyType({"smoke": 4, "cpu": 16, "paper": 64})

_FIRST = "ReLU, zeros, 3"
_VARIANTS: Final[Mapping[str, Options]] = MappingProxyType(
    {
        _FIRST: (),
        "ReLU, circular, 3": options(padding="circular"),
        "GELU, zeros, 3": options(activation="gelu"),
        "ReLU, zeros, 5": options(kernel_size=5),
        "ReLU, zeros, 7": options(kernel_size=7),
    }
)
"""Activation, padding, kernel: one change at a time."""


def study_1d(scale: Scale) -> Study:
    """Chains of convolutions over sequences; images are read row after row.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    channels = options(in_channels=3, length=1024) if scale == "paper" else ()
    return _study("cnn1d", scale, channels, "one-dimensional")


def study_2d(scale: Scale) -> Study:
    """Chains of convolutions over images.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    channels = options(in_channels=3, image_size=32) if scale == "paper" else ()
    return _study("cnn2d", scale, channels, "two-dimensional")


def _study(name: str, scale: Scale, channels: Options, dimension: str) -> Study:
    protocol = Protocol(
        _DATA[scale],
        ladder(_DEPTHS[scale]),
        _BUDGETS[name, scale],
        _SEEDS[scale],
        options(width=_WIDTHS[scale], **dict(channels)),
        exhaustive=scale != "smoke",
    )
    families = tuple(
        protocol.family(label, name, optimizer=SGD, start=0.1, **dict(variant))
        for label, variant in _VARIANTS.items()
    )
    law = [Claim(f"-3/2 with {label}", "[AM]", label, -1.5) for label in _VARIANTS]
    same = [
        Claim(f"{label}: as with {_FIRST}", "[AM]", label, 0.0, against=_FIRST)
        for label in _VARIANTS
        if label.startswith("ReLU") and label != _FIRST
    ]
    steeper = Claim(
        "GELU is steeper than ReLU",
        "[AM]",
        "GELU, zeros, 3",
        0.0,
        relation="below",
        against=_FIRST,
    )
    return Study(
        name=name,
        title=f"Optimal learning rate of plain {dimension} convolutional chains over depth",
        papers=("[AM] arXiv 2510.04327",),
        scale=scale,
        families=families,
        claims=(*law, *same, steeper),
        notes=("Width and resolution are constant; a mean over positions stands before the head.",),
    )
