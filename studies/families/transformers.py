"""Transformers as people train them: GPT-2 and Llama blocks, ViT, LayerScale, post-norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_WIDTH = 16


@dataclass(frozen=True)
class TransformerShape:
    """What tells one Transformer family from another.

    Attributes:
        order: Norm before the branch, or after the addition.
        norm: LayerNorm, or RMSNorm.
        feed_forward: Two layers with GELU, or SwiGLU of three.
        positions: Learned and added, or rotary.
        bias: Of linear layers and norms.
        layer_scale: Initial value of a gain on every branch; None for none.
        initialization: "gpt2": normal 0.02, last weights of a branch / sqrt(2 depth); "normal":
            0.02 everywhere; "xavier": uniform by Glorot on linear layers.
    """

    order: Literal["pre", "post"] = "pre"
    norm: Literal["layer", "rms"] = "layer"
    feed_forward: Literal["gelu", "swiglu"] = "gelu"
    positions: Literal["learned", "rotary"] = "learned"
    bias: bool = True
    layer_scale: float | None = None
    initialization: Literal["gpt2", "normal", "xavier"] = "gpt2"

    def make_norm(self, width: int) -> nn.Module:
        """A norm over the features."""
        if self.norm == "rms":
            return nn.RMSNorm(width)
        return nn.LayerNorm(width, bias=self.bias)


class _Attention(nn.Module):
    def __init__(self, width: int, shape: TransformerShape, *, causal: bool) -> None:
        super().__init__()
        self.num_heads = width // HEAD_WIDTH
        self.causal = causal
        self.rotary = shape.positions == "rotary"
        self.qkv = nn.Linear(width, 3 * width, bias=shape.bias)
        self.out = nn.Linear(width, width, bias=shape.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = _rotated(q), _rotated(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


def _rotated(x: Tensor) -> Tensor:
    """Rotary positions [arXiv 2104.09864] on (..., time, head width)."""
    time, half = x.shape[-2], x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angles = torch.arange(time, device=x.device)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class _Gelu(nn.Module):
    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.out = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(F.gelu(self.up(x)))
        return out


class _SwiGLU(nn.Module):
    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        inner = 8 * width // 3 // 8 * 8
        self.gate = nn.Linear(width, inner, bias=bias)
        self.up = nn.Linear(width, inner, bias=bias)
        self.out = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(F.silu(self.gate(x)) * self.up(x))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, shape: TransformerShape, *, causal: bool) -> None:
        super().__init__()
        feed_forward = _SwiGLU if shape.feed_forward == "swiglu" else _Gelu
        self.post = shape.order == "post"
        self.norm1, self.norm2 = shape.make_norm(width), shape.make_norm(width)
        self.attn = _Attention(width, shape, causal=causal)
        self.mlp = feed_forward(width, bias=shape.bias)
        scale = shape.layer_scale
        self.scale1 = None if scale is None else nn.Parameter(torch.full((width,), scale))
        self.scale2 = None if scale is None else nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        if self.post:
            x = self.norm1(x + self.attn(x))
            return self.norm2(x + self.mlp(x))  # type: ignore[no-any-return]
        branch = self.attn(self.norm1(x))
        x = x + (branch if self.scale1 is None else self.scale1 * branch)
        branch = self.mlp(self.norm2(x))
        return x + (branch if self.scale2 is None else self.scale2 * branch)  # type: ignore[no-any-return]


class _Body(nn.Module):
    """Blocks and, with norms before the branches, a last norm."""

    def __init__(self, depth: int, width: int, shape: TransformerShape, *, causal: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width, shape, causal=causal) for _ in range(depth))
        self.norm = shape.make_norm(width) if shape.order == "pre" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class TextTransformer(nn.Module):
    """A causal Transformer over bytes.

    Args:
        depth: Blocks.
        width: Features of the stream, a multiple of 16.
        context: Longest input.
        shape: What kind it is.
    """

    def __init__(self, depth: int, width: int, context: int, shape: TransformerShape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        learned = shape.positions == "learned"
        self.position = nn.Parameter(torch.zeros(context, width)) if learned else None
        self.body = _Body(depth, width, shape, causal=True)
        self.head = nn.Linear(width, 256, bias=False)
        _initialize(self, depth, shape)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, 256, time) of tokens (batch, time), as `cross_entropy` takes them."""
        x = self.embedding(tokens)
        if self.position is not None:
            x = x + self.position[: tokens.shape[1]]
        logits: Tensor = self.head(self.body(x))
        return logits.transpose(1, 2)


class VisionTransformer(nn.Module):
    """A Transformer over patches of an image, read out at their mean.

    Args:
        depth: Blocks.
        width: Features of the stream, a multiple of 16.
        image: Channels and side of an image.
        shape: What kind it is.
        num_classes: Of the readout.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        image: tuple[int, int],
        shape: TransformerShape,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        channels, side = image
        self.stem = nn.Conv2d(channels, width, 4, stride=4)
        self.position = nn.Parameter(torch.zeros((side // 4) ** 2, width))
        self.body = _Body(depth, width, shape, causal=False)
        self.head = nn.Linear(width, num_classes)
        _initialize(self, depth, shape)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        x = self.stem(images).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.body(x).mean(1))
        return logits


def _initialize(model: nn.Module, depth: int, shape: TransformerShape) -> None:
    """Draw all weights from PyTorch's global random numbers; norms stay as they are."""
    for name, parameter in model.named_parameters():
        if name == "position" or name.endswith("embedding.weight"):
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim < 2:
            continue
        elif shape.initialization == "xavier":
            nn.init.xavier_uniform_(parameter)
        else:
            last = shape.initialization == "gpt2" and name.endswith("out.weight")
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth) if last else 0.02)
