"""Networks of torchvision and timm at any depth, and their paths derived by hand.

Each entry: how to build it, the polynomial of its paths (w a weight layer, a an addition), how many
additions it has, and the additions of its streams. The libraries are imported where they are asked
for: they lie beside the environment (see Makefile).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from sympy import symbols

__all__ = ["CASES"]

w, a = symbols("w a")
MLP = a + w**2 * a
PROJECTED = w * a + w**2 * a  # a block of two layers whose shortcut is a layer
EXCITED = 1 + w**2  # as it is, and through the two layers that scale it


def _resnet(n):
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [n, 1, 1, n], num_classes=4)


def _regnet(n):
    from torchvision.models.regnet import AnyStage, BlockParams, RegNet

    assert AnyStage
    return RegNet(
        BlockParams([n, 1, 2, 1], [8, 8, 16, 16], [8] * 4, [1.0] * 4, [2, 1, 2, 2], 0.25),
        num_classes=4,
    )


def _densenet(n):
    from torchvision.models import DenseNet

    return DenseNet(4, (n, 2), 8, num_classes=4)


def _shufflenet(n):
    from torchvision.models import ShuffleNetV2

    return ShuffleNetV2([n, n, 1], [8, 16, 16, 16, 16], num_classes=4)


def _swin(n):
    from torchvision.models import SwinTransformer

    return SwinTransformer([2, 2], 16, [2, n], [2, 2], [4, 4], num_classes=4)


def _convnext(n):
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [CNBlockConfig(8, 16, n), CNBlockConfig(16, None, 2)]
    return ConvNeXt(stages, stochastic_depth_prob=0.5, num_classes=4).train()


def _mobilenet(n):
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    stages = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(16, 3, 72, 24, False, "RE", 2, 1, 1.0),
        *(InvertedResidualConfig(24, 5, 96, 24, True, "HS", 1, 1, 1.0) for _ in range(n)),
    ]
    return MobileNetV3(stages, 32, num_classes=4)


def _googlenet_block(n):
    from torch import nn
    from torchvision.models.googlenet import BasicConv2d, Inception

    blocks = [Inception(16, 4, 4, 4, 4, 4, 4) for _ in range(n)]
    return nn.Sequential(BasicConv2d(3, 16, kernel_size=3), *blocks, nn.Conv2d(16, 4, 1))


def _timm(name, **settings):
    def build(n):
        import timm

        made = {key: value(n) if callable(value) else value for key, value in settings.items()}
        return timm.create_model(name, num_classes=4, **made)

    return build


def _res2net(n):
    from timm.models.res2net import Bottle2neck
    from timm.models.resnet import ResNet

    return ResNet(
        Bottle2neck, [n + 1, 1, 1, 1], num_classes=4, channels=(8, 8, 8, 8),
        base_width=26, block_args={"scale": 4},
    )  # fmt: skip


def _mixer(n):
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(4, 64, patch_size=16, num_blocks=n, embed_dim=16)


def _gated_mlp(n):
    from timm.layers import GatedMlp
    from timm.models.mlp_mixer import MlpMixer, SpatialGatingBlock

    return MlpMixer(
        4, 64, patch_size=16, num_blocks=n, embed_dim=16, mlp_ratio=6,
        block_layer=SpatialGatingBlock, mlp_layer=GatedMlp,
    )  # fmt: skip


def _metaformer(n):
    from timm.models.metaformer import MetaFormer, Pooling

    return MetaFormer(depths=(n, 1), dims=(8, 16), token_mixers=Pooling, num_classes=4)


def _res2net_block(shortcut, first):
    """Four parts of one layer's output, the second and third with what came before added."""
    split = w
    one = split * w
    two = split * w if first else (split + one) * a * w
    three = split * w if first else (split + two) * a * w
    return shortcut * a + (one + two + three + split) * w * a


def _cait_paths(n):
    """Talking heads: two layers on the scores; two blocks in which the class token reads all.

    Queries come of the token alone, behind the norm of both. The first token is a table, whose part
    of the concatenation is none of an operand: its queries count as read from all.
    """
    talking = a + w * (1 + w**2) * w * a
    patches = w * (talking * MLP) ** n
    token = patches * 3 * w * w * MLP
    return (token * a + (3 * token + 2 * patches) * w * w * a) * MLP


VIT = {"img_size": 16, "patch_size": 8, "depth": lambda n: n, "embed_dim": 16, "num_heads": 2}

CASES: dict[str, Any] = {
    "resnet": (
        _resnet,
        lambda n: w * MLP**n * PROJECTED**3 * MLP ** (n - 1) * w,
        lambda n: 2 * n + 2,
        lambda n: [2 * n + 2],
    ),
    "regnet": (
        _regnet,
        lambda n: (
            w
            * (w * a + w**2 * EXCITED * w * a)
            * (a + w**2 * EXCITED * w * a) ** (n - 1)
            * (a + w**2 * EXCITED * w * a)
            * (w * a + w**2 * EXCITED * w * a)
            * (a + w**2 * EXCITED * w * a)
            * (w * a + w**2 * EXCITED * w * a)
            * w
        ),
        lambda n: n + 4,
        lambda n: [n + 4],
    ),
    "densenet": (
        _densenet,
        lambda n: w * (1 + w**2) ** n * w * (1 + w**2) ** 2 * w,
        lambda n: 0,
        lambda n: [],
    ),
    "shufflenet": (
        _shufflenet,
        lambda n: w * ((w**2 + w**3) * (1 + w**3) ** (n - 1)) ** 2 * (w**2 + w**3) * w * w,
        lambda n: 0,
        lambda n: [],
    ),
    "inception blocks": (
        _googlenet_block,
        lambda n: w * (2 * w + 2 * w**2) ** n * w,
        lambda n: 0,
        lambda n: [],
    ),
    "swin": (
        _swin,
        lambda n: w * MLP**4 * w * MLP ** (2 * n) * w,
        lambda n: 4 + 2 * n,
        lambda n: [4, 2 * n],
    ),
    "convnext with stochastic depth": (
        _convnext,
        lambda n: w * (a + w**3 * a) ** n * w * (a + w**3 * a) ** 2 * w,
        lambda n: n + 2,
        lambda n: [n, 2],
    ),
    "mobilenetv3": (
        _mobilenet,
        lambda n: (
            w * w * EXCITED * w * w**3 * (a + w**2 * EXCITED * w * a) ** n * w * w * w
        ),
        lambda n: n,
        lambda n: [n],
    ),
    "vit with layer scale": (
        _timm("deit3_small_patch16_224", **VIT),
        lambda n: w * MLP ** (2 * n) * w,
        lambda n: 2 * n,
        lambda n: [2 * n],
    ),
    "mixer": (
        _mixer,
        lambda n: w * MLP ** (2 * n) * w,
        lambda n: 2 * n,
        lambda n: [2 * n],
    ),
    "gated mlp": (
        _gated_mlp,
        lambda n: w * (a + w * (1 + w) * w * a) ** n * w,
        lambda n: n,
        lambda n: [n],
    ),
    "poolformer": (
        _metaformer,
        lambda n: w * (a * MLP) ** n * w * a * MLP * w**2,
        lambda n: 2 * n + 2,
        lambda n: [2 * n, 2],
    ),
    "res2net": (
        _res2net,
        lambda n: (
            w * _res2net_block(w, True) ** 4 * _res2net_block(1, False) ** n * w
        ),
        lambda n: 3 * n + 4,
        lambda n: [1] * 2 * n + [n + 4],
    ),
    "cait": (
        _timm("cait_xxs24_224", **VIT),
        lambda n: _cait_paths(n) * w,
        lambda n: 2 * n + 3,
        lambda n: [2 * n, 3],
    ),
}  # fmt: skip


def _report(name: str, n: int) -> dict[str, Any]:
    """The depth report, with the additions of the streams."""
    from etastar.graph import capture_graph

    size = 16 if name in ("cait", "vit with layer scale") else 64
    graph = capture_graph(CASES[name][0](n), torch.zeros(2, 3, size, size))
    inside = {(i.stream, i.stream_additions) for i in graph.parameters if i.in_branch}
    return {**graph.depth().as_dict(), "streams": sorted(k for _, k in inside)}


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    from vision import declare_operators

    declare_operators()
    sizes = [int(size) for size in sys.argv[1:]]
    print(json.dumps({name: [_report(name, n) for n in sizes] for name in CASES}))  # noqa: T201
