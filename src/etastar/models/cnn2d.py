"""A plain chain of convolutions over images."""

from __future__ import annotations

from torch import Tensor, nn

from etastar.models.activation import activation_module
from etastar.models.arguments import require_positive
from etastar.models.convolution import Padding, require_kernel, same_conv2d

__all__ = ["CNN2d", "cnn2d"]


class CNN2d(nn.Module):
    """Convolutions of one width, the mean over positions, a linear head; made by `cnn2d`."""

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
            same_conv2d(fan_in, width, kernel_size=kernel_size, padding=padding, bias=bias)
            for fan_in in channels[:depth]
        )
        self.activation = activation_module(activation)
        self.head = nn.Linear(width, num_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        for layer in self.layers:
            x = self.activation(layer(x))
        logits: Tensor = self.head(x.mean((-2, -1)))
        return logits


def cnn2d(
    depth: int = 4,
    width: int = 16,
    *,
    in_channels: int = 1,
    image_size: int = 8,
    num_classes: int = 10,
    kernel_size: int = 3,
    padding: Padding = "zeros",
    activation: str = "relu",
    bias: bool = True,
) -> CNN2d:
    """A convolutional network over images; effective depth = depth + 1.

    Args:
        depth: Number of hidden weight layers: convolutions, the first one included, the head not.
        width: Channels of every hidden layer.
        in_channels: Channels of the input.
        image_size: Height and width in pixels; only example inputs depend on it.
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
        >>> cnn2d(3, 8)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    require_positive(
        depth=depth,
        width=width,
        in_channels=in_channels,
        image_size=image_size,
        num_classes=num_classes,
    )
    require_kernel(kernel_size, padding)
    return CNN2d(
        depth,
        width,
        in_channels=in_channels,
        num_classes=num_classes,
        kernel_size=kernel_size,
        padding=padding,
        activation=activation,
        bias=bias,
    )
