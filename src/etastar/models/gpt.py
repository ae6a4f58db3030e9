"""A pre-LN decoder-only Transformer over tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.transformer import Block, TransformerConfig

__all__ = ["GPT", "GPTConfig"]


@dataclass(frozen=True)
class GPTConfig(TransformerConfig):
    """A small GPT.

    Attributes:
        vocabulary: Number of tokens (bytes by default).
        context: Longest input in tokens.
        tied: Whether the head shares its weight with the embedding.
    """

    vocabulary: int = 256
    context: int = 32
    tied: bool = False


class GPT(nn.Module):
    """Embeddings, causal pre-LN blocks, a last norm, a linear head.

    Its effective depth is 2 depth + 2, with parallel branches depth + 2.

    Args:
        config: Sizes and options; see `TransformerConfig` and `NetworkConfig`.

    Example:
        >>> GPT(GPTConfig(depth=1, width=16))(torch.zeros(2, 32, dtype=torch.int64)).shape
        torch.Size([2, 32, 256])
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.context = config.context
        # the order of drawing: stored results depend on it
        blocks = [Block(config, causal=True) for _ in range(config.depth)]
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
