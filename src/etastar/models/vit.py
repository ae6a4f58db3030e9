"""A pre-LN vision Transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.arguments import require_positive
from etastar.models.transformer import Block, require_block

__all__ = ["ViT", "vit"]


class ViT(nn.Module):
    """Patches, pre-LN blocks, a last norm, the mean over patches, a linear head; made by `vit`."""

    def __init__(
        self, patches: nn.Conv2d, blocks: list[Block], *, num_patches: int, num_classes: int
    ) -> None:
        super().__init__()
        width = patches.out_channels
        self.patches = patches
        self.position = nn.Parameter(0.02 * torch.randn(num_patches, width))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, elementwise_affine=blocks[0].ln1.elementwise_affine)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width in pixels)."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


def vit(
    depth: int = 2,
    width: int = 64,
    *,
    in_channels: int = 1,
    image_size: int = 8,
    patch_size: int = 2,
    num_classes: int = 10,
    head_width: int = 16,
    parallel: bool = False,
    affine: bool = True,
    activation: str = "gelu",
    dropout: float = 0.0,
    bias: bool = True,
    branch_multiplier: float = 1.0,
) -> ViT:
    """A small vision Transformer; effective depth = 2 depth + 2, with parallel branches depth + 2.

    Args:
        depth: Number of Transformer blocks; each holds two residual additions (one n-ary addition
            with parallel branches).
        width: Units of the stream; the feed-forward layers have four times as many.
        in_channels: Channels of the input.
        image_size: Height and width in pixels.
        patch_size: Height and width of a patch in pixels; a divisor of `image_size`.
        num_classes: Outputs.
        head_width: Units of one attention head; the number of heads grows with width.
        parallel: Whether attention and feed-forward read the same norm and are added at once.
        affine: Whether the norms have gains and shifts.
        activation: A key of `etastar.models.activation.ACTIVATIONS`.
        dropout: Probability, on attention weights and branch outputs.
        bias: Whether the linear layers of the blocks have biases.
        branch_multiplier: Factor on each branch's output in the forward pass.

    Returns:
        The network with PyTorch's own initialization.

    Raises:
        ModelSpecError: A size is no positive integer, or an option is unknown.

    Example:
        >>> vit(1, 16)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    require_positive(in_channels=in_channels, image_size=image_size, patch_size=patch_size)
    require_positive(num_classes=num_classes)
    require_block(
        depth, width, head_width=head_width, dropout=dropout, branch_multiplier=branch_multiplier
    )
    if image_size % patch_size:
        raise ModelSpecError(
            f"image_size={image_size}, patch_size={patch_size}",
            "a patch_size that divides image_size",
            "change one of them",
        )
    patches = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
    blocks = [
        Block(
            width,
            head_width=head_width,
            causal=False,
            parallel=parallel,
            affine=affine,
            activation=activation,
            dropout=dropout,
            bias=bias,
            branch_multiplier=branch_multiplier,
        )
        for _ in range(depth)
    ]
    num_patches = (image_size // patch_size) ** 2
    return ViT(patches, blocks, num_patches=num_patches, num_classes=num_classes)
