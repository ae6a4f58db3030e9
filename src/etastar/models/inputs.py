"""Example inputs: a batch of two for each kind of data, the same at every call."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["feature_inputs", "image_inputs", "sequence_inputs", "token_inputs"]

_BATCH = 2


def _normal(*shape: int) -> Tensor:
    return torch.randn(_BATCH, *shape, generator=torch.Generator().manual_seed(0))


def feature_inputs(*, in_features: int) -> tuple[Tensor]:
    """Two vectors.

    Args:
        in_features: Number of features.

    Returns:
        One tensor of shape (2, in_features).

    Example:
        >>> feature_inputs(in_features=3)[0].shape
        torch.Size([2, 3])
    """
    return (_normal(in_features),)


def sequence_inputs(*, in_channels: int, length: int) -> tuple[Tensor]:
    """Two sequences.

    Args:
        in_channels: Number of channels.
        length: Number of positions.

    Returns:
        One tensor of shape (2, in_channels, length).

    Example:
        >>> sequence_inputs(in_channels=1, length=64)[0].shape
        torch.Size([2, 1, 64])
    """
    return (_normal(in_channels, length),)


def image_inputs(*, in_channels: int, image_size: int) -> tuple[Tensor]:
    """Two square images.

    Args:
        in_channels: Number of channels.
        image_size: Height and width in pixels.

    Returns:
        One tensor of shape (2, in_channels, image_size, image_size).

    Example:
        >>> image_inputs(in_channels=1, image_size=8)[0].shape
        torch.Size([2, 1, 8, 8])
    """
    return (_normal(in_channels, image_size, image_size),)


def token_inputs(*, vocabulary: int, context: int) -> tuple[Tensor]:
    """Two sequences of tokens.

    Args:
        vocabulary: Number of tokens.
        context: Length in tokens.

    Returns:
        One integer tensor of shape (2, context).

    Example:
        >>> token_inputs(vocabulary=256, context=32)[0].shape
        torch.Size([2, 32])
    """
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(vocabulary, (_BATCH, context), generator=generator),)
