"""A residual convolutional network of constant width and size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from etastar.models.components import activation_module, add_branch, same_conv
from etastar.models.config import Padding, ResidualConfig

__all__ = ["ResNet", "ResNetBlock", "ResNetConfig"]


@dataclass(frozen=True)
class ResNetConfig(ResidualConfig):
    """A pre-activation ResNet without downsampling.

    Attributes:
        in_channels: Channels of the input.
        image_size: Height and width in pixels; only example inputs depend on it.
        kernel_size: Taps per dimension, odd.
        padding: See `Padding`.
    """

    width: int = 16
    in_channels: int = 1
    image_size: int = 8
    kernel_size: int = 3
    padding: Padding = "zeros"


class ResNetBlock(nn.Module):
    """`x + m conv1(phi(x))`, or `x + m conv2(phi(conv1(phi(x))))`.

    With `batch_norm` each activation is `phi(norm(.))`; dropout stands before each weight.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.BatchNorm2d(width) if config.batch_norm else nn.Identity()
        self.conv1 = _convolution(width, config)
        self.norm2: nn.Module | None = None
        self.conv2: nn.Module | None = None
        if config.branch_layers == 2:
            self.norm2 = nn.BatchNorm2d(width) if config.batch_norm else nn.Identity()
            self.conv2 = _convolution(width, config)
        self.activation = activation_module(config.activation)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.branch_multiplier = config.branch_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """The stream (batch, width, height, width in pixels) after this block."""
        branch = self.conv1(self.dropout(self.activation(self.norm1(x))))
        if self.norm2 is not None and self.conv2 is not None:
            branch = self.conv2(self.dropout(self.activation(self.norm2(branch))))
        return add_branch(x, branch, self.branch_multiplier)


class ResNet(nn.Module):
    """`head(mean(phi(blocks(stem(x)))))`; effective depth = depth + 2.

    Stem, K blocks at constant width and image size, mean over positions, linear head: depth is the
    only thing that grows with K.

    Args:
        config: Sizes and options; see `ResidualConfig` and `NetworkConfig`.

    Example:
        >>> import torch
        >>> ResNet(ResNetConfig(depth=3, width=8, branch_layers=2))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.stem = _convolution(config.in_channels, config)
        self.blocks = nn.ModuleList(ResNetBlock(config) for _ in range(config.depth))
        self.norm = nn.BatchNorm2d(config.width) if config.batch_norm else nn.Identity()
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width in pixels)."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.activation(self.norm(x))
        logits: Tensor = self.head(x.mean((-2, -1)))
        return logits


def _convolution(in_channels: int, config: ResNetConfig) -> nn.Module:
    return same_conv(
        in_channels,
        config.width,
        kernel_size=config.kernel_size,
        padding=config.padding,
        bias=config.bias,
    )
