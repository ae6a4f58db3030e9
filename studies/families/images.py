"""ResNets, MobileNet, ConvNeXt, the papers' residual network, and chains."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


class _ResNetBlock(nn.Module):
    """Basic (3 x 3, 3 x 3) or bottleneck (1 x 1, 3 x 3, 1 x 1 with four times the channels)."""

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        layers: list[nn.Module] = []
        plan = (
            ((inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1))
            if bottleneck
            else ((inputs, width, 3, stride), (width, outputs, 3, 1))
        )
        for place, sizes in enumerate(plan):
            layers += [_conv(*sizes), nn.BatchNorm2d(sizes[1])]
            layers += [nn.ReLU()] if place < len(plan) - 1 else []
        self.branch = nn.Sequential(*layers)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.branch(x)
        return torch.relu(out)


class ResNet(nn.Module):
    """Three stages with BatchNorm [arXiv 1512.03385], initialized as torchvision's.

    Args:
        depth: Blocks of a stage.
        width: Channels of the first stage; they double from stage to stage.
        in_channels: Of an image.
        bottleneck: Blocks of three layers.
        num_classes: Of the readout.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        in_channels: int = 1,
        *,
        bottleneck: bool = False,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(in_channels, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU())
        channels = width
        blocks = []
        for stage in range(3):
            for place in range(depth):
                stride = 2 if stage > 0 and place == 0 else 1
                block = _ResNetBlock(channels, width * 2**stage, stride, bottleneck=bottleneck)
                channels = width * 2**stage * (4 if bottleneck else 1)
                blocks.append(block)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        logits: Tensor = self.head(self.blocks(self.stem(images)).mean((2, 3)))
        return logits


class _InvertedResidual(nn.Module):
    """1 x 1 to four times the channels, 3 x 3 channel by channel, 1 x 1 back without activation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = 4 * inputs
        self.branch = nn.Sequential(
            *(_conv(inputs, inner, 1), nn.BatchNorm2d(inner), nn.ReLU6()),
            nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False),
            *(nn.BatchNorm2d(inner), nn.ReLU6()),
            *(_conv(inner, outputs, 1), nn.BatchNorm2d(outputs)),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branch(x)
        return x + out if self.adds else out


class MobileNet(nn.Module):
    """Three stages of inverted residuals with BatchNorm [arXiv 1801.04381].

    Args:
        depth: Blocks of a stage; the first of a stage has no addition.
        width: Channels of the first stage; they double from stage to stage.
        in_channels: Of an image.
        num_classes: Of the readout.
    """

    def __init__(self, depth: int, width: int, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        stem = _conv(in_channels, width, 3, 2)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU6())
        blocks, channels = [], width
        for stage in range(3):
            for place in range(depth):
                outputs = width * 2**stage
                stride = 2 if stage > 0 and place == 0 else 1
                blocks.append(_InvertedResidual(channels, outputs, stride))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        logits: Tensor = self.head(self.blocks(self.stem(images)).mean((2, 3)))
        return logits


class _ConvNeXtBlock(nn.Module):
    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, 4 * width)
        self.out = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        out: Tensor = self.scale * self.out(nn.functional.gelu(self.up(branch)))
        return x + out.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """One stage of ConvNeXt blocks [arXiv 2201.03545] over patches of four, with LayerScale.

    Args:
        depth: Blocks.
        width: Channels.
        in_channels: Of an image.
        num_classes: Of the readout.
    """

    def __init__(self, depth: int, width: int, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 4, stride=4)
        self.blocks = nn.Sequential(*(_ConvNeXtBlock(width, 1e-6) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        x = self.blocks(self.stem(images)).mean((2, 3))
        logits: Tensor = self.head(self.norm(x))
        return logits


class PlainResidual(nn.Module):
    """The papers' residual network: branches of one layer, variance 1/K, no norm.

    x + W phi(x), W of variance 2 / (fan_in K); readout of variance 1 / fan_in.

    Args:
        depth: Branches, K.
        width: Channels or features.
        in_channels: Of an image.
        kind: Convolutions of 3 x 3 after a stem of stride 2, or linear layers over the pixels.
        side: Of an image, for linear layers.
        num_classes: Of the readout.

    Source: [WU], section on ResNets; [AM].
    """

    def __init__(
        self,
        depth: int,
        width: int,
        in_channels: int = 1,
        *,
        kind: Literal["conv", "linear"] = "conv",
        side: int = 28,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if kind == "conv":
            self.stem: nn.Module = _conv(in_channels, width, 3, 2)
            branches = [_conv(width, width, 3) for _ in range(depth)]
        else:
            pixels = in_channels * side * side
            self.stem = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width, bias=False))
            branches = [nn.Linear(width, width, bias=False) for _ in range(depth)]  # type: ignore[misc]
        self.branches = nn.ModuleList(branches)
        self.head = nn.Linear(width, num_classes, bias=False)
        _draw(self, share={id(branch.weight): 2.0 / depth for branch in branches})

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        x = self.stem(images)
        for branch in self.branches:
            x = x + branch(torch.relu(x))
        logits: Tensor = self.head(x.flatten(2).mean(2) if x.ndim == 4 else x)
        return logits


class Chain(nn.Module):
    """A chain without norms: phi(W phi(... W x)), He's variance for ReLU, 1 / fan_in for tanh.

    Args:
        depth: Hidden layers.
        width: Channels or features.
        in_channels: Of an image.
        kind: Linear layers over the pixels, or convolutions of 3 x 3, the first of stride 2.
        activation: ReLU or tanh.
        side: Of an image, for linear layers.
        num_classes: Of the readout.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        in_channels: int = 1,
        *,
        kind: Literal["conv", "linear"] = "linear",
        activation: Literal["relu", "tanh"] = "relu",
        side: int = 28,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [] if kind == "conv" else [nn.Flatten()]
        inputs = in_channels if kind == "conv" else in_channels * side * side
        for place in range(depth):
            layers.append(
                _conv(inputs, width, 3, 1 if place else 2)
                if kind == "conv"
                else nn.Linear(inputs, width, bias=False)
            )
            layers.append(nn.ReLU() if activation == "relu" else nn.Tanh())
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes, bias=False)
        gain = 2.0 if activation == "relu" else 1.0
        hidden = [m for m in self.layers if isinstance(m, (nn.Linear, nn.Conv2d))]
        _draw(self, share={id(m.weight): gain for m in hidden[1:]})

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        x = self.layers(images)
        logits: Tensor = self.head(x.flatten(2).mean(2) if x.ndim == 4 else x)
        return logits


def _draw(model: nn.Module, *, share: dict[int, float]) -> None:
    """Every weight normal with variance gain / fan_in, the gain 1 where none is given."""
    for parameter in model.parameters():
        fan_in = parameter[0].numel()
        gain = share.get(id(parameter), 1.0)
        nn.init.normal_(parameter, std=(gain / fan_in) ** 0.5)
