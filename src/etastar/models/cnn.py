"""Plain chains of convolutions over sequences and over images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from etastar.models.components import activation_module, same_conv
from etastar.models.config import NetworkConfig, Padding

__all__ = ["CNN1d", "CNN1dConfig", "CNN2d", "CNN2dConfig", "CNNConfig"]


@dataclass(frozen=True)
class CNNConfig(NetworkConfig):
    """A chain of convolutions.

    Attributes:
        in_channels: Channels of the input.
        num_classes: Outputs.
        kernel_size: Taps per dimension, odd, so that the size is kept.
        padding: See `Padding`.
    """

    width: int = 16
    in_channels: int = 1
    num_classes: int = 10
    kernel_size: int = 3
    padding: Padding = "zeros"


@dataclass(frozen=True)
class CNN1dConfig(CNNConfig):
    """Over sequences.

    Attributes:
        length: Positions of a sequence (8 x 8 pixels); only example inputs depend on it.
    """

    length: int = 64


@dataclass(frozen=True)
class CNN2dConfig(CNNConfig):
    """Over images.

    Attributes:
        image_size: Height and width in pixels; only example inputs depend on it.
    """

    image_size: int = 8


class CNN2d(nn.Module):
    """Convolutions of one width, the mean over positions, a head; effective depth = depth + 1.

    Args:
        config: Sizes and options; see `NetworkConfig` for those that all networks have.

    Example:
        >>> import torch
        >>> CNN2d(CNN2dConfig(depth=3, width=8))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: CNNConfig) -> None:
        super().__init__()
        channels = [config.in_channels] + [config.width] * config.depth
        self.layers = nn.ModuleList(
            same_conv(
                fan_in,
                config.width,
                kernel_size=config.kernel_size,
                padding=config.padding,
                bias=config.bias,
                dimensions=1 if isinstance(config, CNN1dConfig) else 2,
            )
            for fan_in in channels[: config.depth]
        )
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        for layer in self.layers:
            x = self.activation(layer(x))
        logits: Tensor = self.head(x.mean(tuple(range(2, x.ndim))))
        return logits


class CNN1d(CNN2d):
    """The same over sequences.

    Example:
        >>> import torch
        >>> CNN1d(CNN1dConfig(depth=3, width=8))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, channels, length), or of images read row after row."""
        return super().forward(x.flatten(2))
