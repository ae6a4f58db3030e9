"""Images brought to mean 0 and standard deviation 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["standardize_images"]


def standardize_images(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts shifted and scaled, channel by channel, with the statistics of the first.

    Args:
        train: (examples, channels, height, width), float.
        test: The same shape but for the number of examples.

    Returns:
        The two parts; of the training part each channel has mean 0 and standard deviation 1. A
        channel that is constant stays at 0.

    Example:
        >>> import torch
        >>> train, test = standardize_images(torch.tensor([[[[1.0, 3.0]]]]), torch.ones(1, 1, 1, 1))
        >>> train.flatten().tolist(), test.flatten().tolist()
        ([-1.0, 1.0], [-1.0])
    """
    std, mean = _channel_statistics(train)
    scale = std.masked_fill(std == 0, 1.0)
    return (train - mean) / scale, (test - mean) / scale


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    mean = images.mean((0, 2, 3), keepdim=True)
    return images.std((0, 2, 3), correction=0, keepdim=True), mean
