"""Parts of networks: activations by name, convolutions that keep the size, the addition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from etastar.models.config import Padding, ResidualConfig

__all__ = ["ResidualBlock", "activation_module", "add_branch", "same_conv"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def activation_module(name: str) -> nn.Module:
    """A new module of the named activation.

    Args:
        name: One of `etastar.models.config.ActivationName`.

    Returns:
        The module, without parameters.

    Example:
        >>> activation_module("relu")
        ReLU()
    """
    return _ACTIVATIONS[name]()


def add_branch(x: Tensor, branch: Tensor, multiplier: float) -> Tensor:
    """The residual addition x + multiplier * branch.

    At 1.0 nothing is multiplied, so that the network is the ordinary one.

    Args:
        x: The residual stream, any shape.
        branch: The branch's output, same shape.
        multiplier: The factor m of [TP6] (K^(-1/2)) and [CP] (1/K).

    Returns:
        The stream after the addition, same shape.

    Example:
        >>> import torch
        >>> add_branch(torch.ones(2), torch.full((2,), 4.0), 0.25)
        tensor([2., 2.])
    """
    if multiplier == 1.0:
        return x + branch
    return x + multiplier * branch


class ResidualBlock(nn.Module):
    """`x + m W1(phi(x))`, or with two weight layers `x + m W2(phi(W1(phi(x))))`.

    With `batch_norm` each activation is `phi(norm(.))`; dropout stands before each weight.

    Args:
        config: Sizes and options.
        layer: Makes a weight layer of the stream's width.
        norm: Class of the BatchNorm.
        name: Of the weight layers: "fc" for fc1 and fc2.
    """

    def __init__(
        self,
        config: ResidualConfig,
        layer: Callable[[], nn.Module],
        norm: type[nn.Module],
        name: str,
    ) -> None:
        super().__init__()
        self.places = [(f"norm{k + 1}", f"{name}{k + 1}") for k in range(config.branch_layers)]
        for norm_name, layer_name in self.places:
            self.add_module(norm_name, norm(config.width) if config.batch_norm else nn.Identity())
            self.add_module(layer_name, layer())
        self.activation = activation_module(config.activation)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.branch_multiplier = config.branch_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """The stream after this block, of the shape of the stream before it."""
        branch = x
        for norm_name, layer_name in self.places:
            normed = self.activation(self.get_submodule(norm_name)(branch))
            branch = self.get_submodule(layer_name)(self.dropout(normed))
        return add_branch(x, branch, self.branch_multiplier)


def same_conv(
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int,
    padding: Padding,
    bias: bool,
    dimensions: Literal[1, 2] = 2,
) -> nn.Module:
    """A convolution that keeps the size of its input.

    Args:
        in_channels: Channels read.
        out_channels: Channels written.
        kernel_size: Taps per dimension, odd.
        padding: What is read beyond the ends or edges.
        bias: Whether it has a bias.
        dimensions: 1 over sequences, 2 over images.

    Returns:
        The module.

    Example:
        >>> same_conv(1, 4, kernel_size=3, padding="zeros", bias=False).weight.shape
        torch.Size([4, 1, 3, 3])
    """
    convolution: type[nn.Conv1d | nn.Conv2d] = nn.Conv1d if dimensions == 1 else nn.Conv2d
    return convolution(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        padding_mode=padding,
        bias=bias,
    )
