"""From shallow and narrow to deep and wide at once, zero-shot [WU] [TP5] [CP]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from etastar.sweep.recipe import Size
from studies.declaration import Budget, Data, Parametrization, Study, options, size
from studies.initialization import StableInit
from studies.protocol import ADAMW, SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Family, Scale


def _sizes(depths: Sequence[int], widths: tuple[int, int]) -> tuple[Size, ...]:
    """The first depths narrow, as many as are bases; the rest wide."""
    return tuple(
        size(depth=depth, width=widths[place >= _NUM_BASES]) for place, depth in enumerate(depths)
    )


_NUM_BASES = 2
_IMAGES: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"), _sizes([1, 2, 4], (4, 8)), Budget(2, 8), (0, 1), exhaustive=False
        ),
        "cpu": Protocol(Data("digits"), _sizes([2, 4, 16], (4, 16)), Budget(100, 32), (0, 1)),
        "paper": Protocol(
            Data("hf:cifar10"),
            _sizes([4, 8, 16, 32, 64], (32, 256)),
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
            _sizes([1, 2, 4], (16, 32)),
            Budget(2, 4),
            (0, 1),
            options(context=8),
            exhaustive=False,
        ),
        "cpu": Protocol(
            Data("stdlib-text", options(context=16)),
            _sizes([1, 2, 8], (16, 64)),
            Budget(100, 16),
            (0, 1),
            options(context=16),
        ),
        "paper": Protocol(
            Data("hf:roneneldan/TinyStories", options(context=256, num_bytes=50_000_000)),
            _sizes([2, 4, 8, 16, 32], (128, 1024)),
            Budget(1000, 64),
            (0, 1, 2),
            options(context=256, head_width=64),
        ),
    }
)


def study(scale: Scale) -> Study:
    """ResNet with SGD and GPT with AdamW: the width rule with each way to treat depth.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    plain = (
        _IMAGES[scale].family("ResNet, SGD", "resnet", optimizer=SGD, start=0.1),
        _TEXT[scale].family("GPT, AdamW", "gpt", optimizer=ADAMW, start=0.01),
    )
    claims = [
        claim
        for family in plain
        for claim in (
            Claim(f"{family.name}, mup, 1/K: -3/2", "[WU]", f"{family.name}, mup, 1/K", -1.5),
            Claim(
                f"{family.name}, mup, complete-p: one rate for all sizes",
                "[CP]",
                f"{family.name}, mup, complete-p",
                0.0,
            ),
        )
    ]
    return Study(
        name="joint",
        title="From shallow and narrow to deep and wide at once",
        papers=("[WU] arXiv 2602.07494", "[TP5] arXiv 2203.03466", "[CP] arXiv 2505.01618"),
        scale=scale,
        families=tuple(one for family in plain for one in _both(family)),
        claims=tuple(claims),
        notes=(
            "Bases are narrow, targets four times as wide and eight times as deep (cpu). Every "
            "family is trained through a plan with the width rule from the smallest network.",
        ),
    )


def _both(family: Family) -> Iterator[Family]:
    """Depth left to the rules, with variance 1/K; and CompleteP's branch multipliers."""
    base, bases = family.sizes[0], family.sizes[:_NUM_BASES]
    wide = tuple(one for one in family.targets if one not in bases)
    chosen = replace(family, group=f"{family.name}, joint", bases=bases, targets=wide)
    yield replace(
        chosen,
        name=f"{family.name}, mup, 1/K",
        parametrization=Parametrization("constant", base=base, width="mup"),
    )
    yield replace(
        chosen,
        name=f"{family.name}, mup, complete-p",
        initialization=StableInit(residual="none"),
        parametrization=Parametrization("complete-p", base=base, width="mup"),
    )
