"""Transformers: pre-LN GPT on text and ViT on images, four parametrizations [WU] [TP6] [CP]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from studies.declaration import Budget, Data, Parametrization, Study, ladder, options
from studies.initialization import StableInit
from studies.protocol import ADAMW, SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Family, OptimizerChoice, Scale

_TEXT: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("stdlib-text", options(context=8, num_bytes=20_000)),
            ladder([1, 2, 4]),
            Budget(2, 4),
            (0, 1),
            options(width=16, context=8),
            exhaustive=False,
        ),
        "cpu": Protocol(
            Data("stdlib-text", options(context=16)),
            ladder([1, 2, 4, 8]),
            Budget(100, 16),
            (0, 1),
            options(width=32, context=16),
        ),
        "paper": Protocol(
            Data("hf:roneneldan/TinyStories", options(context=256, num_bytes=50_000_000)),
            ladder([2, 4, 8, 16, 32]),
            Budget(1000, 64),
            (0, 1, 2),
            options(width=256, context=256, head_width=64),
        ),
    }
)
_IMAGES: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"),
            ladder([1, 2, 4]),
            Budget(2, 4),
            (0, 1),
            options(width=16, patch_size=4),
            exhaustive=False,
        ),
        "cpu": Protocol(
            Data("digits"), ladder([1, 2, 4, 8]), Budget(100, 16), (0, 1), options(width=32)
        ),
        "paper": Protocol(
            Data("hf:cifar100", options(label_column="fine_label")),
            ladder([2, 4, 8, 16, 32]),
            Budget(390, 128),
            (0, 1, 2),
            options(
                width=256,
                head_width=64,
                in_channels=3,
                image_size=32,
                patch_size=4,
                num_classes=100,
            ),
        ),
    }
)
"""`paper`: one epoch of CIFAR-100 in batches of 128."""

_STARTS: Final[Mapping[str, float]] = MappingProxyType({"sgd": 0.5, "adamw": 0.01})
_LABELS: Final[Mapping[str, str]] = MappingProxyType({"sgd": "SGD", "adamw": "AdamW"})


def study(scale: Scale) -> Study:
    """GPT with SGD and AdamW in four parametrizations, without norm parameters, and ViT.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.
    """
    text, images = _TEXT[scale], _IMAGES[scale]
    families = [one for optimizer in (SGD, ADAMW) for one in _gpt(text, optimizer)]
    bare = text.family(
        "GPT AdamW, 1/K, no affine", "gpt", optimizer=ADAMW, start=0.01, affine=False
    )
    pictures = [
        images.family(
            f"ViT {_LABELS[optimizer.name]}, 1/K",
            "vit",
            optimizer=optimizer,
            start=_STARTS[optimizer.name],
        )
        for optimizer in (SGD, ADAMW)
    ]
    return Study(
        name="transformer",
        title="Optimal learning rate of pre-LN Transformers over depth",
        papers=("[WU] arXiv 2602.07494", "[TP6] arXiv 2310.02244", "[CP] arXiv 2505.01618"),
        scale=scale,
        families=(*families, bare, *pictures),
        claims=tuple(_claims(bare.name)),
        notes=(
            "K counts residual additions, two in each block. standard: He without K; 1/K: He with "
            "variance 1/K on every branch weight; depth-mup and complete-p: He without K times the "
            "law's multiplier relative to one block, which is the plan's initialization and "
            "parameter groups. No weight decay, no schedule, no warm-up.",
            "[TP6] derives its law for branches of one layer and says itself that Transformer "
            "blocks, with two layers or more, fall outside of it.",
        ),
    )


def _gpt(protocol: Protocol, optimizer: OptimizerChoice) -> Iterator[Family]:
    """The four parametrizations."""
    label, start = f"GPT {_LABELS[optimizer.name]}", _STARTS[optimizer.name]
    yield protocol.family(f"{label}, 1/K", "gpt", optimizer=optimizer, start=start)
    standard = protocol.family(
        f"{label}, standard",
        "gpt",
        optimizer=optimizer,
        start=start,
        initialization=StableInit(residual="none"),
    )
    yield standard
    for law in ("depth-mup", "complete-p"):
        chosen = Parametrization(law, base=protocol.sizes[0])
        yield replace(standard, name=f"{label}, {law}", parametrization=chosen)


def _claims(bare: str) -> Iterator[Claim]:
    for label in _LABELS.values():
        yield Claim(f"GPT, {label}: -3/2", "[WU]", f"GPT {label}, 1/K", -1.5)
        yield Claim(f"ViT, {label}: -3/2", "[WU]", f"ViT {label}, 1/K", -1.5)
        yield Claim(
            f"GPT, {label}, depth-mup: one rate for all depths",
            "[TP6]",
            f"GPT {label}, depth-mup",
            0.0,
        )
        yield Claim(
            f"GPT, {label}, complete-p: one rate for all depths",
            "[CP]",
            f"GPT {label}, complete-p",
            0.0,
        )
    yield Claim("norm parameters do not move it", "[WU]", bare, 0.0, against="GPT AdamW, 1/K")
