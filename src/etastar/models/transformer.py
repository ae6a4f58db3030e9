"""Attention, feed-forward and the pre-LN block that the Transformers of the zoo share.

Shape suffixes: B batch, T positions, D width, H heads, E width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.components import activation_module, add_branch
from etastar.models.config import ActivationName, NetworkConfig

__all__ = ["Attention", "Block", "FeedForward", "TransformerConfig"]


@dataclass(frozen=True)
class TransformerConfig(NetworkConfig):
    """Pre-LN blocks; each holds two residual additions, with parallel branches one of both.

    The feed-forward layers have four times the width; `bias` is that of the blocks' linear layers.

    Attributes:
        head_width: Units of one attention head; it stays and the number of heads grows with width,
            so that the attention logits' scale 1 / sqrt(head_width) does not depend on width.
        parallel: Whether attention and feed-forward read the same norm and are added at once.
        affine: Whether the norms have gains and shifts.
        dropout: Probability, on attention weights and branch outputs.
        branch_multiplier: Factor on each branch's output in the forward pass.

    Raises:
        ModelSpecError: A value is not accepted, or the heads do not fill the width.
    """

    depth: int = 2
    activation: ActivationName = "gelu"
    head_width: int = 16
    parallel: bool = False
    affine: bool = True
    dropout: float = 0.0
    branch_multiplier: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.head_width:
            raise ModelSpecError(
                f"width={self.width}, head_width={self.head_width}",
                "a width that is a multiple of head_width",
                "change one of them",
            )


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
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


class FeedForward(nn.Module):
    """`proj(phi(fc(x)))` with four times the width inside."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.width, 4 * config.width, bias=config.bias)
        self.activation = activation_module(config.activation)
        self.proj = nn.Linear(4 * config.width, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, T, D), position by position."""
        out: Tensor = self.proj(self.activation(self.fc(x)))
        return out


class Block(nn.Module):
    """Pre-LN block: `x + m attn(ln1(x))`, then `x + m mlp(ln2(x))`.

    With `parallel` both branches read one norm: `x + m attn(ln1(x)) + m mlp(ln1(x))`.
    """

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__()
        width, affine = config.width, config.affine
        self.ln1 = nn.LayerNorm(width, elementwise_affine=affine)
        self.attn = Attention(config, causal=causal)
        self.ln2 = None if config.parallel else nn.LayerNorm(width, elementwise_affine=affine)
        self.mlp = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.branch_multiplier = config.branch_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """The stream (B, T, D) after this block."""
        normed = self.ln1(x)
        stream = add_branch(x, self.dropout(self.attn(normed)), self.branch_multiplier)
        if self.ln2 is not None:
            normed = self.ln2(stream)
        return add_branch(stream, self.dropout(self.mlp(normed)), self.branch_multiplier)
