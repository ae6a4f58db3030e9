"""A residual convolutional network of constant width and size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from etastar.models.components import ResidualBlock, activation_module, same_conv
from etastar.models.config import Padding, ResidualConfig

__all__ = ["ResNet", "ResNetConfig"]


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
        convolution = partial(
            same_conv,
            out_channels=config.width,
            kernel_size=config.kernel_size,
            padding=config.padding,
            bias=config.bias,
        )
        layer = partial(convolution, config.width)
        self.stem = convolution(config.in_channels)
        self.blocks = nn.ModuleList(
            ResidualBlock(config, layer, nn.BatchNorm2d, "conv") for _ in range(config.depth)
        )
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
