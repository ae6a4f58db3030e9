"""The families, fixed before any run: networks, data, recipes, sizes, rates and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from etastar.transfer.experience import Parametrization
from studies.families.images import Chain, ConvNeXt, MobileNet, PlainResidual, ResNet
from studies.families.transformers import TextTransformer, TransformerShape, VisionTransformer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FamilyScale:
    """How large the networks are, and how long they train.

    Attributes:
        name: Of the scale.
        num_steps: Optimizer steps of a run.
        seeds: Of initialization and batches.
        factors: Depths of a family, as multiples of its base's.
        widening: Factor on the families' widths.
        image_data: Data set of images: name, options, channels, side, classes.
        text_data: Data set of text: name and options.
        context: Bytes in an input.
        batch: Factor on the families' batch sizes.
        only: Families that are run; None for all.
    """

    name: str
    num_steps: int
    seeds: tuple[int, ...]
    factors: tuple[int, ...]
    widening: float
    image_data: tuple[str, Mapping[str, str], int, int, int]
    text_data: tuple[str, Mapping[str, int]]
    context: int
    batch: int = 1
    only: tuple[str, ...] | None = None


_NO_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({})
_FASHION: Final = ("fashion-mnist", _NO_OPTIONS, 1, 28, 10)
_CIFAR: Final = ("hf:cifar100", MappingProxyType({"label_column": "fine_label"}), 3, 32, 100)
_STDLIB: Final = ("stdlib-text", MappingProxyType({"num_bytes": 2_000_000}))
_STORIES: Final = ("hf:roneneldan/TinyStories", MappingProxyType({"num_bytes": 200_000_000}))
_LITTLE: Final = ("stdlib-text", MappingProxyType({"num_bytes": 20_000}))

SCALES: Final[Mapping[str, FamilyScale]] = MappingProxyType(
    {
        "smoke": FamilyScale("smoke", 4, (0, 1), (1, 2), 0.25, _FASHION, _LITTLE, 8),
        "cpu": FamilyScale("cpu", 300, (0, 1, 2), (1, 2, 4, 8), 1, _FASHION, _STDLIB, 64),
        "gpu": FamilyScale(
            *("gpu", 300, (0, 1, 2), (1, 4), 4, _FASHION, _STDLIB, 64, 4),
            only=("gpt", "resnet-bn"),
        ),
        "paper": FamilyScale(
            "paper", 2000, (0, 1, 2, 3), (1, 2, 4, 8), 4, _CIFAR, _STORIES, 256, 4
        ),
    }
)
"""`cpu`: about four hours on two cores. `gpu`: eight minutes on one card."""


@dataclass(frozen=True)
class NetworkFamily:
    """Networks that differ in depth alone, and how their users train them.

    Adam-like optimizers: decoupled decay 0.1 on matrices, gradients clipped at norm 1; SGD:
    momentum 0.9, decay 5e-4 on matrices. All: warm-up over a tenth of the steps, cosine to a tenth
    of the rate.

    Attributes:
        name: Of the family.
        make: `make(depth, width, scale)` builds the network.
        data: Images or text.
        optimizer: Name of the optimizer's kind.
        base_depth: Blocks or layers of the base.
        width: Features at scale `cpu`.
        batch_size: Examples in a batch at scale `cpu`.
        start: Power of two of the first rate that is looked at.
        parametrizations: What is tried beside the network's own.
    """

    name: str
    make: Callable[[int, int, FamilyScale], nn.Module]
    data: Literal["images", "text"]
    optimizer: Literal["sgd", "adamw", "muon"]
    base_depth: int
    width: int
    batch_size: int
    start: int
    parametrizations: tuple[Parametrization, ...] = ("own",)

    def sizes(self, scale: FamilyScale) -> tuple[int, ...]:
        """Depths, the base's first."""
        return tuple(self.base_depth * factor for factor in scale.factors)


def _text(shape: TransformerShape, depth: int, width: int, scale: FamilyScale) -> nn.Module:
    return TextTransformer(depth, width, scale.context, shape)


def _vision(shape: TransformerShape, depth: int, width: int, scale: FamilyScale) -> nn.Module:
    _, _, channels, side, classes = scale.image_data
    return VisionTransformer(depth, width, (channels, side // 4 * 4), shape, classes)


def _resnet(bottleneck: bool, depth: int, width: int, scale: FamilyScale) -> nn.Module:
    _, _, channels, _, classes = scale.image_data
    return ResNet(depth, width, channels, bottleneck=bottleneck, num_classes=classes)


def _mobile(depth: int, width: int, scale: FamilyScale) -> nn.Module:
    _, _, channels, _, classes = scale.image_data
    return MobileNet(depth, width, channels, classes)


def _convnext(depth: int, width: int, scale: FamilyScale) -> nn.Module:
    _, _, channels, _, classes = scale.image_data
    return ConvNeXt(depth, width, channels, classes)


def _plain(
    kind: Literal["conv", "linear"], depth: int, width: int, scale: FamilyScale
) -> nn.Module:
    _, _, channels, side, classes = scale.image_data
    return PlainResidual(depth, width, channels, kind=kind, side=side, num_classes=classes)


def _chain(
    kind: Literal["conv", "linear"],
    activation: Literal["relu", "tanh"],
    depth: int,
    width: int,
    scale: FamilyScale,
) -> nn.Module:
    _, _, channels, side, classes = scale.image_data
    return Chain(
        *(depth, width, channels),
        kind=kind,
        activation=activation,
        side=side,
        num_classes=classes,
    )


_GPT: Final = TransformerShape()
_LLAMA: Final = TransformerShape(
    norm="rms",
    feed_forward="swiglu",
    positions="rotary",
    bias=False,
    initialization="normal",
)
_POST: Final = TransformerShape(order="post", initialization="xavier")
_SCALED: Final = TransformerShape(layer_scale=1e-4, initialization="normal")
_PLAIN_VIT: Final = TransformerShape(initialization="normal")
_BRANCHED: Final[tuple[Parametrization, ...]] = ("own", "complete-p", "depth-mup", "stabilized")

FAMILIES: Final[tuple[NetworkFamily, ...]] = (
    NetworkFamily("gpt", partial(_text, _GPT), "text", "adamw", 2, 64, 8, -8, _BRANCHED),
    NetworkFamily("resnet-bn", partial(_resnet, False), "images", "sgd", 1, 16, 32, -4, _BRANCHED),
    NetworkFamily("mlp-relu", partial(_chain, "linear", "relu"), "images", "sgd", 2, 256, 64, -5),
    NetworkFamily("llama", partial(_text, _LLAMA), "text", "adamw", 2, 64, 8, -7, _BRANCHED),
    NetworkFamily("cnn-relu", partial(_chain, "conv", "relu"), "images", "sgd", 2, 32, 32, -5),
    NetworkFamily(
        "resnet-bottleneck", partial(_resnet, True), "images", "sgd", 2, 8, 32, -4, _BRANCHED
    ),
    NetworkFamily("vit", partial(_vision, _PLAIN_VIT), "images", "adamw", 2, 64, 16, -8, _BRANCHED),
    NetworkFamily("resnet-am", partial(_plain, "conv"), "images", "sgd", 2, 32, 32, -5),
    NetworkFamily("mlp-tanh", partial(_chain, "linear", "tanh"), "images", "sgd", 2, 256, 64, -5),
    NetworkFamily("resmlp-am", partial(_plain, "linear"), "images", "sgd", 2, 128, 64, -5),
    NetworkFamily("gpt-muon", partial(_text, _GPT), "text", "muon", 2, 64, 8, -7, _BRANCHED),
    NetworkFamily("llama-muon", partial(_text, _LLAMA), "text", "muon", 2, 64, 8, -7, _BRANCHED),
    NetworkFamily("post-ln", partial(_text, _POST), "text", "adamw", 2, 64, 8, -8, _BRANCHED),
    NetworkFamily("post-vit", partial(_vision, _POST), "images", "adamw", 2, 64, 16, -8, _BRANCHED),
    NetworkFamily("mlp-adam", partial(_chain, "linear", "relu"), "images", "adamw", 2, 256, 64, -9),
    NetworkFamily("cnn-adam", partial(_chain, "conv", "relu"), "images", "adamw", 2, 32, 32, -8),
    NetworkFamily("convnext", _convnext, "images", "adamw", 2, 64, 32, -8, _BRANCHED),
    NetworkFamily(
        "vit-scaled", partial(_vision, _SCALED), "images", "adamw", 2, 64, 16, -8, _BRANCHED
    ),
    NetworkFamily("mobilenet", _mobile, "images", "sgd", 2, 8, 32, -4, _BRANCHED),
    NetworkFamily(
        "vit-muon", partial(_vision, _PLAIN_VIT), "images", "muon", 2, 64, 16, -7, _BRANCHED
    ),
)
"""Two of every kind at least; in the order in which they are run, the last two declared later.

Chains are drawn by He's rule and `resnet-am` with variance 1/K, which is what `initialize_` does:
there is no other parametrization to try. Bottlenecks need a base of two blocks a stage, since the
first of a stage has another shape. `cnn` and `mlp` have depths that learn, and a width of at
least sixteen times the depth.
"""


def families_of(scale: FamilyScale) -> tuple[NetworkFamily, ...]:
    """The families that a scale runs.

    Args:
        scale: One of `SCALES`.

    Returns:
        Families in the order in which they are run.

    Example:
        >>> [family.name for family in families_of(SCALES["gpu"])]
        ['gpt', 'resnet-bn']
    """
    return tuple(f for f in FAMILIES if scale.only is None or f.name in scale.only)
