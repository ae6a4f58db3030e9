"""A pre-LN decoder-only Transformer over tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.arguments import require_positive
from etastar.models.transformer import Block, require_block

__all__ = ["GPT", "gpt"]


class GPT(nn.Module):
    """Embeddings, causal pre-LN blocks, a last norm, a linear head; made by `gpt`."""

    def __init__(
        self,
        width: int,
        blocks: list[Block],
        *,
        vocabulary: int,
        context: int,
        affine: bool,
        tied: bool,
    ) -> None:
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
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


def gpt(
    depth: int = 2,
    width: int = 64,
    *,
    vocabulary: int = 256,
    context: int = 32,
    head_width: int = 16,
    parallel: bool = False,
    affine: bool = True,
    tied: bool = False,
    activation: str = "gelu",
    dropout: float = 0.0,
    bias: bool = True,
    branch_multiplier: float = 1.0,
) -> GPT:
    """A small GPT; effective depth = 2 depth + 2, with parallel branches depth + 2.

    Args:
        depth: Number of Transformer blocks; each holds two residual additions (one n-ary addition
            with parallel branches).
        width: Units of the stream; the feed-forward layers have four times as many.
        vocabulary: Number of tokens (bytes by default).
        context: Longest input in tokens.
        head_width: Units of one attention head; it stays and the number of heads grows with width,
            so that the attention logits' scale 1 / sqrt(head_width) does not depend on width.
        parallel: Whether attention and feed-forward read the same norm and are added at once.
        affine: Whether the norms have gains and shifts.
        tied: Whether the head shares its weight with the embedding.
        activation: A key of `etastar.models.activation.ACTIVATIONS`.
        dropout: Probability, on attention weights and branch outputs.
        bias: Whether the linear layers of the blocks have biases.
        branch_multiplier: Factor on each branch's output in the forward pass.

    Returns:
        The network with PyTorch's own initialization.

    Raises:
        ModelSpecError: A size is no positive integer, or an option is unknown.

    Example:
        >>> gpt(1, 16)(torch.zeros(2, 32, dtype=torch.int64)).shape
        torch.Size([2, 32, 256])
    """
    require_positive(vocabulary=vocabulary, context=context)
    require_block(
        depth, width, head_width=head_width, dropout=dropout, branch_multiplier=branch_multiplier
    )
    blocks = [
        Block(
            width,
            head_width=head_width,
            causal=True,
            parallel=parallel,
            affine=affine,
            activation=activation,
            dropout=dropout,
            bias=bias,
            branch_multiplier=branch_multiplier,
        )
        for _ in range(depth)
    ]
    return GPT(width, blocks, vocabulary=vocabulary, context=context, affine=affine, tied=tied)
