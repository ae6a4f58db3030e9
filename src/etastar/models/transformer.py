"""Attention, feed-forward and the pre-LN block that the Transformers of the zoo share.

Shape suffixes: B batch, T positions, D width, H heads, E width of a head.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.activation import activation_module
from etastar.models.arguments import require_finite, require_fraction, require_positive
from etastar.models.branch import add_branch

__all__ = ["Attention", "Block", "FeedForward", "require_block"]


def require_block(
    depth: int, width: int, *, head_width: int, dropout: float, branch_multiplier: float
) -> None:
    """Refuse sizes of which no block can be made.

    Args:
        depth: Number of blocks.
        width: Units of the stream.
        head_width: Units of one attention head.
        dropout: Probability.
        branch_multiplier: Factor on each branch's output.

    Raises:
        ModelSpecError: A size is no positive integer, or the heads do not fill the width.

    Example:
        >>> require_block(2, 64, head_width=16, dropout=0.0, branch_multiplier=1.0)
    """
    require_positive(depth=depth, width=width, head_width=head_width)
    require_fraction("dropout", dropout)
    require_finite("branch_multiplier", branch_multiplier)
    if width % head_width:
        raise ModelSpecError(
            f"width={width}, head_width={head_width}",
            "a width that is a multiple of head_width",
            "change one of them",
        )


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(
        self, width: int, *, head_width: int, causal: bool, dropout: float, bias: bool
    ) -> None:
        super().__init__()
        self.num_heads = width // head_width
        self.causal = causal
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width, bias=bias)

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

    def __init__(self, width: int, *, activation: str, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 4 * width, bias=bias)
        self.activation = activation_module(activation)
        self.proj = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, T, D), position by position."""
        out: Tensor = self.proj(self.activation(self.fc(x)))
        return out


class Block(nn.Module):
    """Pre-LN block: `x + m attn(ln1(x))`, then `x + m mlp(ln2(x))`.

    With `parallel` both branches read one norm: `x + m attn(ln1(x)) + m mlp(ln1(x))`.
    """

    def __init__(
        self,
        width: int,
        *,
        head_width: int,
        causal: bool,
        parallel: bool,
        affine: bool,
        activation: str,
        dropout: float,
        bias: bool,
        branch_multiplier: float,
    ) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, elementwise_affine=affine)
        self.attn = Attention(
            width, head_width=head_width, causal=causal, dropout=dropout, bias=bias
        )
        self.ln2 = None if parallel else nn.LayerNorm(width, elementwise_affine=affine)
        self.mlp = FeedForward(width, activation=activation, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.branch_multiplier = branch_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """The stream (B, T, D) after this block."""
        normed = self.ln1(x)
        stream = add_branch(x, self.dropout(self.attn(normed)), self.branch_multiplier)
        if self.ln2 is not None:
            normed = self.ln2(stream)
        return add_branch(stream, self.dropout(self.mlp(normed)), self.branch_multiplier)
