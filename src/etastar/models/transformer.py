"""Pre-LN Transformers: a decoder over tokens, and a vision Transformer.

Shape suffixes: B batch, T positions, D width, H heads, E width of a head.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.feedforward import NetworkConfig, activation_module, add_branch


class _Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: NetworkConfig, *, causal: bool) -> None:
        super().__init__()
        width = config.width
        self.num_heads = width // config.head_width
        self.causal = causal
        self.dropout = config.dropout
        self.qkv = nn.Linear(width, 3 * width, bias=config.bias)
        self.proj = nn.Linear(width, width, bias=config.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:  # noqa: N803
        """Mixed values (B, T, D), projected."""
        qkv_BT3HE = self.qkv(x_BTD).unflatten(-1, (3, self.num_heads, -1))  # noqa: N806
        q_BHTE, k_BHTE, v_BHTE = qkv_BT3HE.permute(2, 0, 3, 1, 4).unbind(0)  # noqa: N806
        mixed_BHTE = F.scaled_dot_product_attention(  # noqa: N806
            q_BHTE,
            k_BHTE,
            v_BHTE,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.causal,
        )
        out: Tensor = self.proj(mixed_BHTE.transpose(1, 2).flatten(2))
        return out


class _Block(nn.Module):
    """Pre-LN block: `x + m attn(ln1(x))`, then `x + m mlp(ln2(x))`; `mlp` has four times the width.

    With `parallel` both branches read one norm: `x + m attn(ln1(x)) + m mlp(ln1(x))`.
    """

    def __init__(self, config: NetworkConfig, *, causal: bool) -> None:
        super().__init__()
        width, affine = config.width, config.affine
        self.ln1 = nn.LayerNorm(width, elementwise_affine=affine)
        self.attn = _Attention(config, causal=causal)
        self.ln2 = None if config.parallel else nn.LayerNorm(width, elementwise_affine=affine)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc=nn.Linear(width, 4 * width, bias=config.bias),
                activation=activation_module(config.activation),
                proj=nn.Linear(4 * width, width, bias=config.bias),
            )
        )
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.branch_multiplier = config.branch_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """The stream (B, T, D) after this block."""
        normed = self.ln1(x)
        stream = add_branch(x, self.dropout(self.attn(normed)), self.branch_multiplier)
        if self.ln2 is not None:
            normed = self.ln2(stream)
        return add_branch(stream, self.dropout(self.mlp(normed)), self.branch_multiplier)


class GPT(nn.Module):
    """Embeddings, causal pre-LN blocks, a last norm, a linear head.

    Its effective depth is 2 depth + 2, with parallel branches depth + 2.

    Example:
        >>> GPT(NetworkConfig(depth=1, width=16))(torch.zeros(2, 32, dtype=torch.int64)).shape
        torch.Size([2, 32, 256])
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.context = config.context
        # the order of drawing: stored results depend on it
        blocks = [_Block(config, causal=True) for _ in range(config.depth)]
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.width, elementwise_affine=config.affine)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, time, vocabulary) of integer tokens (batch, time)."""
        time = tokens.shape[1]
        if time > self.context:
            raise ModelSpecError(
                f"tokens of length {time}",
                f"at most context={self.context}",
                "shorten the tokens or build the network with a longer context",
            )
        x = self.embedding(tokens) + self.position(torch.arange(time, device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class ViT(nn.Module):
    """Patches, pre-LN blocks, a last norm, the mean over patches, a linear head.

    Its effective depth is 2 depth + 2, with parallel branches depth + 2.

    Example:
        >>> ViT(NetworkConfig(depth=1, width=16))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, side = config.width, config.patch_size
        # the order of drawing: stored results depend on it
        self.patches = nn.Conv2d(config.in_channels, width, side, stride=side)
        blocks = [_Block(config, causal=False) for _ in range(config.depth)]
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
