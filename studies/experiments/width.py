"""The learning rate across widths at fixed depth, with and without the width rule [TP5]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from etastar.sweep.recipe import Size
from studies.declaration import Budget, Data, Parametrization, Study, options, size
from studies.mup_package import MupInit
from studies.protocol import ADAM, ADAMW, SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Family, Scale


def _widths(depth: int, widths: Iterable[int]) -> tuple[Size, ...]:
    return tuple(size(depth=depth, width=width) for width in widths)


_SMALL = Budget(2, 8)
_CHAINS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(Data("digits"), _widths(2, [4, 8, 16]), _SMALL, (0, 1), exhaustive=False),
        "cpu": Protocol(
            Data("fashion-mnist", options(size=14)),
            _widths(4, [32, 64, 128, 256]),
            Budget(100, 64),
            (0, 1),
            options(in_features=196),
        ),
        "paper": Protocol(
            Data("hf:cifar10"),
            _widths(4, [128, 256, 512, 1024, 2048, 4096]),
            Budget(390, 128),
            (0, 1, 2),
            options(in_features=3072),
        ),
    }
)
_RESIDUAL: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(Data("digits"), _widths(2, [4, 8, 16]), _SMALL, (0, 1), exhaustive=False),
        "cpu": Protocol(Data("digits"), _widths(3, [8, 16, 32, 64]), Budget(100, 32), (0, 1)),
        "paper": Protocol(
            Data("hf:cifar10"),
            _widths(8, [32, 64, 128, 256, 512]),
            Budget(390, 128),
            (0, 1, 2),
            options(in_channels=3, image_size=32),
        ),
    }
)
_TEXT: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("stdlib-text", options(context=8, num_bytes=20_000)),
            _widths(1, [16, 32, 64]),
            Budget(2, 4),
            (0, 1),
            options(context=8),
            exhaustive=False,
        ),
        "cpu": Protocol(
            Data("stdlib-text", options(context=16)),
            _widths(1, [16, 32, 64, 128]),
            Budget(100, 16),
            (0, 1),
            options(context=16),
        ),
        "paper": Protocol(
            Data("hf:roneneldan/TinyStories", options(context=256, num_bytes=50_000_000)),
            _widths(4, [128, 256, 512, 1024]),
            Budget(1000, 64),
            (0, 1, 2),
            options(context=256, head_width=64),
        ),
    }
)


def study(scale: Scale) -> Study:
    """MLP with SGD and Adam, ResNet with SGD, GPT with AdamW.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    chains, residual, text = _CHAINS[scale], _RESIDUAL[scale], _TEXT[scale]
    plain = (
        chains.family("MLP, SGD", "mlp", optimizer=SGD, start=0.2, grows="width"),
        chains.family("MLP, Adam", "mlp", optimizer=ADAM, start=0.005, grows="width"),
        residual.family("ResNet, SGD", "resnet", optimizer=SGD, start=0.1, grows="width"),
        text.family("GPT, AdamW", "gpt", optimizer=ADAMW, start=0.01, grows="width"),
    )
    return Study(
        name="width",
        title="Optimal learning rate over width at fixed depth",
        papers=("[TP5] arXiv 2203.03466", "[JE] arXiv 2305.07810"),
        scale=scale,
        families=(*(one for family in plain for one in _both(family)), *map(_peer, plain[1:])),
        claims=tuple(_claims(family.name for family in plain)),
        notes=(
            "mup: the plan of the width rule from the narrowest network, one base rate; standard: "
            "one rate for all parameters, variance gain / fan-in everywhere. mup package: the same "
            "with readout, initialization factors and optimizer of the package of that name.",
        ),
    )


def _both(family: Family) -> Iterator[Family]:
    """With the width rule, and with one rate for all parameters."""
    along = replace(family, axes=("width",), rules=("constant",))
    chosen = Parametrization("constant", base=family.sizes[0], width="mup")
    yield replace(along, name=f"{family.name}, mup", parametrization=chosen)
    yield replace(along, name=f"{family.name}, standard")


def _peer(family: Family) -> Family:
    """The width rule as its authors' package applies it."""
    return replace(
        family,
        name=f"{family.name}, mup package",
        axes=("width",),
        rules=("mup",),
        initialization=MupInit(family.sizes[0]),
        optimizer=replace(family.optimizer, name=f"mup-{family.optimizer.name}"),
    )


def _claims(names: Iterable[str]) -> Iterator[Claim]:
    for name in names:
        yield Claim(f"{name}, mup: one rate for all widths", "[TP5]", f"{name}, mup", 0.0,
                    axis="width")  # fmt: skip
        if "Adam" in name:
            yield Claim(
                f"{name}, standard: falls with width",
                "[TP5]",
                f"{name}, standard",
                0.0,
                relation="below",
                axis="width",
            )
