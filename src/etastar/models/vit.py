"""A pre-LN vision Transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.transformer import Block, TransformerConfig

__all__ = ["ViT", "ViTConfig"]


@dataclass(frozen=True)
class ViTConfig(TransformerConfig):
    """A small vision Transformer.

    Attributes:
        in_channels: Channels of the input.
        image_size: Height and width in pixels.
        patch_size: Height and width of a patch in pixels; a divisor of `image_size`.
        num_classes: Outputs.

    Raises:
        ModelSpecError: A value is not accepted, or the patches do not fill the image.
    """

    in_channels: int = 1
    image_size: int = 8
    patch_size: int = 2
    num_classes: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise ModelSpecError(
                f"image_size={self.image_size}, patch_size={self.patch_size}",
                "a patch_size that divides image_size",
                "change one of them",
            )


class ViT(nn.Module):
    """Patches, pre-LN blocks, a last norm, the mean over patches, a linear head.

    Its effective depth is 2 depth + 2, with parallel branches depth + 2.

    Args:
        config: Sizes and options; see `TransformerConfig` and `NetworkConfig`.

    Example:
        >>> ViT(ViTConfig(depth=1, width=16))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width, side = config.width, config.patch_size
        # the order of drawing: stored results depend on it
        self.patches = nn.Conv2d(config.in_channels, width, side, stride=side)
        blocks = [Block(config, causal=False) for _ in range(config.depth)]
        num_patches = (config.image_size // side) ** 2
        self.position = nn.Parameter(0.02 * torch.randn(num_patches, width))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, elementwise_affine=config.affine)
        self.head = nn.Linear(width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width in pixels)."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits
