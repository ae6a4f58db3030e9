"""A plain chain of convolutions over sequences."""

from __future__ import annotations

from torch import Tensor, nn

from etastar.models.activation import activation_module
from etastar.models.arguments import require_positive
from etastar.models.convolution import Padding, require_kernel, same_conv1d

__all__ = ["CNN1d", "cnn1d"]


class CNN1d(nn.Module):
    """Convolutions of one width, the mean over positions, a linear head; made by `cnn1d`."""

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        in_channels: int,
        num_classes: int,
        kernel_size: int,
        padding: Padding,
        activation: str,
        bias: bool,
    ) -> None:
        super().__init__()
        channels = [in_channels] + [width] * depth
        self.layers = nn.ModuleList(
            same_conv1d(fan_in, width, kernel_size=kernel_size, padding=padding, bias=bias)
            for fan_in in channels[:depth]
        )
        self.activation = activation_module(activation)
        self.head = nn.Linear(width, num_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, channels, length), or of images read row after row."""
        x = x.flatten(2)
        for layer in self.layers:
            x = self.activation(layer(x))
        logits: Tensor = self.head(x.mean(-1))
        return logits


def cnn1d(
    depth: int = 4,
    width: int = 16,
    *,
    in_channels: int = 1,
    length: int = 64,
    num_classes: int = 10,
    kernel_size: int = 3,
    padding: Padding = "zeros",
    activation: str = "relu",
    bias: bool = True,
) -> CNN1d:
    """A convolutional network over sequences; effective depth = depth + 1.

    Args:
        depth: Number of hidden weight layers: convolutions, the first one included, the head not.
        width: Channels of every hidden layer.
        in_channels: Channels of the input.
        length: Positions of a sequence (8 x 8 pixels); only example inputs depend on it.
        num_classes: Outputs.
        kernel_size: Taps per dimension, odd, so that the size is kept.
        padding: "zeros" or "circular".
        activation: A key of `etastar.models.activation.ACTIVATIONS`.
        bias: Whether the layers have biases.

    Returns:
        The network with PyTorch's own initialization.

    Raises:
        ModelSpecError: A size is no positive integer, or an option is unknown.

    Example:
        >>> import torch
        >>> cnn1d(3, 8)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    require_positive(
        depth=depth,
        width=width,
        in_channels=in_channels,
        length=length,
        num_classes=num_classes,
    )
    require_kernel(kernel_size, padding)
    return CNN1d(
        depth,
        width,
        in_channels=in_channels,
        num_classes=num_classes,
        kernel_size=kernel_size,
        padding=padding,
        activation=activation,
        bias=bias,
    )
