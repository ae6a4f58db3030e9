"""Parts of networks: activations by name, convolutions that keep the size, the addition."""

from __future__ import annotations

from torch import Tensor, nn

from etastar.models.config import Padding

__all__ = ["activation_module", "add_branch", "same_conv1d", "same_conv2d"]

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


def same_conv1d(
    in_channels: int, out_channels: int, *, kernel_size: int, padding: Padding, bias: bool
) -> nn.Conv1d:
    """A convolution over sequences that keeps their length.

    Args:
        in_channels: Channels read.
        out_channels: Channels written.
        kernel_size: Taps, odd.
        padding: What is read beyond the ends.
        bias: Whether it has a bias.

    Returns:
        The module.

    Example:
        >>> same_conv1d(1, 4, kernel_size=3, padding="zeros", bias=False).weight.shape
        torch.Size([4, 1, 3])
    """
    return nn.Conv1d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        padding_mode=padding,
        bias=bias,
    )


def same_conv2d(
    in_channels: int, out_channels: int, *, kernel_size: int, padding: Padding, bias: bool
) -> nn.Conv2d:
    """A convolution over images that keeps their size; see `same_conv1d`.

    Args:
        in_channels: Channels read.
        out_channels: Channels written.
        kernel_size: Taps per dimension, odd.
        padding: What is read beyond the edges.
        bias: Whether it has a bias.

    Returns:
        The module.

    Example:
        >>> same_conv2d(1, 4, kernel_size=3, padding="zeros", bias=False).weight.shape
        torch.Size([4, 1, 3, 3])
    """
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        padding_mode=padding,
        bias=bias,
    )
