"""Plain chains of linear layers, and of convolutions over sequences and over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from etastar.models.components import NetworkConfig, Padding, activation_module

__all__ = ["MLP", "CNN1d", "CNN1dConfig", "CNN2d", "CNN2dConfig", "MLPConfig"]


@dataclass(frozen=True)
class _ChainConfig(NetworkConfig):
    num_classes: int = 10


@dataclass(frozen=True)
class MLPConfig(_ChainConfig):
    """A multilayer perceptron.

    Attributes:
        in_features: Numbers in one input once it is flattened (8 x 8 pixels by default).
        num_classes: Outputs.
    """

    in_features: int = 64


@dataclass(frozen=True)
class _CNNConfig(_ChainConfig):
    width: int = 16
    in_channels: int = 1
    kernel_size: int = 3
    padding: Padding = "zeros"


@dataclass(frozen=True)
class CNN1dConfig(_CNNConfig):
    """Convolutions over sequences.

    Attributes:
        in_channels: Channels of the input.
        num_classes: Outputs.
        kernel_size: Taps, odd, so that the length is kept.
        padding: See `Padding`.
        length: Positions of a sequence (8 x 8 pixels); only example inputs depend on it.
    """

    length: int = 64


@dataclass(frozen=True)
class CNN2dConfig(_CNNConfig):
    """Convolutions over images.

    Attributes:
        in_channels: Channels of the input.
        num_classes: Outputs.
        kernel_size: Taps per dimension, odd, so that the size is kept.
        padding: See `Padding`.
        image_size: Height and width in pixels; only example inputs depend on it.
    """

    image_size: int = 8


class _Chain(nn.Module):
    """`head(mean(phi(W_depth ... phi(W_1 x))))`, the mean over positions where there are any."""

    def __init__(
        self, config: _ChainConfig, in_features: int, layer: Callable[..., nn.Module]
    ) -> None:
        super().__init__()
        fans_in = [in_features] + [config.width] * (config.depth - 1)
        self.layers = nn.ModuleList(layer(n, config.width, bias=config.bias) for n in fans_in)
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, features or channels, ...)."""
        for layer in self.layers:
            x = self.activation(layer(x))
        logits: Tensor = self.head(x.mean(tuple(range(2, x.ndim))) if x.ndim > 2 else x)
        return logits


class MLP(_Chain):
    """`head(phi(W_depth ... phi(W_1 x)))`, the network of [JE]; effective depth = depth + 1.

    Example:
        >>> import torch
        >>> MLP(MLPConfig(depth=3, width=16))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: MLPConfig) -> None:
        super().__init__(config, config.in_features, nn.Linear)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of inputs (batch, ...), which are flattened."""
        return super().forward(x.flatten(1))


def _convolution(kind: Callable[..., nn.Module], config: _CNNConfig) -> Callable[..., nn.Module]:
    size = config.kernel_size
    return partial(kind, kernel_size=size, padding=size // 2, padding_mode=config.padding)


class CNN2d(_Chain):
    """Convolutions of one width, the mean over positions, a head; effective depth = depth + 1.

    Example:
        >>> import torch
        >>> CNN2d(CNN2dConfig(depth=3, width=8))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: CNN2dConfig) -> None:
        super().__init__(config, config.in_channels, _convolution(nn.Conv2d, config))


class CNN1d(_Chain):
    """The same over sequences, or over images read row after row.

    Example:
        >>> import torch
        >>> CNN1d(CNN1dConfig(depth=3, width=8))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: CNN1dConfig) -> None:
        super().__init__(config, config.in_channels, _convolution(nn.Conv1d, config))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, channels, ...)."""
        return super().forward(x.flatten(2))
