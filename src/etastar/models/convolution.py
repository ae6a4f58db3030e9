"""Options of a convolution that keeps the length: kernel size and kind of padding."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from etastar.errors import ModelSpecError
from etastar.models.arguments import require_choice, require_positive

__all__ = ["PADDINGS", "Padding", "require_kernel", "same_conv1d", "same_conv2d"]

Padding = Literal["zeros", "circular"]
"""What a convolution reads beyond the edge."""

PADDINGS: tuple[str, ...] = get_args(Padding)


def require_kernel(kernel_size: int, padding: str) -> None:
    """Refuse a kernel or a padding under which the size of the input cannot be kept.

    Args:
        kernel_size: Taps per dimension.
        padding: One of `PADDINGS`.

    Raises:
        ModelSpecError: The kernel is even or less than 1, or the padding is unknown.

    Example:
        >>> require_kernel(3, "circular")
    """
    require_positive(kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ModelSpecError(
            f"kernel_size={kernel_size}", "an odd kernel, which keeps the size", "use 1, 3, 5, ..."
        )
    require_choice("padding", padding, PADDINGS)


def same_conv1d(
    in_channels: int, out_channels: int, *, kernel_size: int, padding: Padding, bias: bool
) -> nn.Conv1d:
    """A convolution over sequences that keeps their length.

    Args:
        in_channels: Channels read.
        out_channels: Channels written.
        kernel_size: Taps, odd.
        padding: One of `PADDINGS`.
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
    """A convolution over images that keeps their size.

    Args:
        in_channels: Channels read.
        out_channels: Channels written.
        kernel_size: Taps per dimension, odd.
        padding: One of `PADDINGS`.
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
