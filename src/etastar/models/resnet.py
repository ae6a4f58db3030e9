"""A residual convolutional network of constant width and size."""

from __future__ import annotations

from torch import Tensor, nn

from etastar.models.activation import activation_module
from etastar.models.arguments import (
    require_choice,
    require_finite,
    require_fraction,
    require_positive,
)
from etastar.models.branch import add_branch
from etastar.models.convolution import Padding, require_kernel, same_conv2d

__all__ = ["ResNet", "ResNetBlock", "resnet"]


class ResNetBlock(nn.Module):
    """`x + m conv1(phi(x))`, or `x + m conv2(phi(conv1(phi(x))))`.

    With `batch_norm` each activation is `phi(norm(.))`; dropout stands before each weight.
    """

    def __init__(
        self,
        width: int,
        *,
        branch_layers: int,
        kernel_size: int,
        padding: Padding,
        activation: str,
        batch_norm: bool,
        dropout: float,
        bias: bool,
        branch_multiplier: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.conv1 = same_conv2d(width, width, kernel_size=kernel_size, padding=padding, bias=bias)
        self.norm2: nn.Module | None = None
        self.conv2: nn.Module | None = None
        if branch_layers == 2:
            self.norm2 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
            self.conv2 = same_conv2d(
                width, width, kernel_size=kernel_size, padding=padding, bias=bias
            )
        self.activation = activation_module(activation)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.branch_multiplier = branch_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """The stream (batch, width, height, width in pixels) after this block."""
        branch = self.conv1(self.dropout(self.activation(self.norm1(x))))
        if self.norm2 is not None and self.conv2 is not None:
            branch = self.conv2(self.dropout(self.activation(self.norm2(branch))))
        return add_branch(x, branch, self.branch_multiplier)


class ResNet(nn.Module):
    """`head(mean(phi(blocks(stem(x)))))`; made by `resnet`."""

    def __init__(
        self,
        stem: nn.Conv2d,
        blocks: list[ResNetBlock],
        *,
        num_classes: int,
        activation: str,
        batch_norm: bool,
        bias: bool,
    ) -> None:
        super().__init__()
        width = stem.out_channels
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.activation = activation_module(activation)
        self.head = nn.Linear(width, num_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width in pixels)."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.activation(self.norm(x))
        logits: Tensor = self.head(x.mean((-2, -1)))
        return logits


def resnet(
    depth: int = 4,
    width: int = 16,
    *,
    in_channels: int = 1,
    image_size: int = 8,
    num_classes: int = 10,
    branch_layers: int = 1,
    kernel_size: int = 3,
    padding: Padding = "zeros",
    activation: str = "relu",
    batch_norm: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
    branch_multiplier: float = 1.0,
) -> ResNet:
    """A pre-activation ResNet without downsampling; effective depth = depth + 2.

    Stem, K blocks at constant width and image size, mean over positions, linear head: depth is the
    only thing that grows with K.

    Args:
        depth: Number of residual blocks, K.
        width: Channels of the stream and inside the branches.
        in_channels: Channels of the input.
        image_size: Height and width in pixels; only example inputs depend on it.
        num_classes: Outputs.
        branch_layers: 1 for `x + conv1(phi(x))`, 2 for `x + conv2(phi(conv1(phi(x))))`.
        kernel_size: Taps per dimension, odd.
        padding: "zeros" or "circular".
        activation: A key of `etastar.models.activation.ACTIVATIONS`.
        batch_norm: Whether a BatchNorm stands before every activation.
        dropout: Probability of dropping an input of a branch's weight.
        bias: Whether the layers have biases.
        branch_multiplier: Factor on each branch's output in the forward pass.

    Returns:
        The network with PyTorch's own initialization.

    Raises:
        ModelSpecError: A size is no positive integer, or an option is unknown.

    Example:
        >>> import torch
        >>> resnet(3, 8, branch_layers=2)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    require_positive(depth=depth, width=width, in_channels=in_channels)
    require_positive(image_size=image_size, num_classes=num_classes)
    require_choice("branch_layers", branch_layers, (1, 2))
    require_kernel(kernel_size, padding)
    require_fraction("dropout", dropout)
    require_finite("branch_multiplier", branch_multiplier)
    stem = same_conv2d(in_channels, width, kernel_size=kernel_size, padding=padding, bias=bias)
    blocks = [
        ResNetBlock(
            width,
            branch_layers=branch_layers,
            kernel_size=kernel_size,
            padding=padding,
            activation=activation,
            batch_norm=batch_norm,
            dropout=dropout,
            bias=bias,
            branch_multiplier=branch_multiplier,
        )
        for _ in range(depth)
    ]
    return ResNet(
        stem,
        blocks,
        num_classes=num_classes,
        activation=activation,
        batch_norm=batch_norm,
        bias=bias,
    )
