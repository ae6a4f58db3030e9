"""A residual network of linear layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from etastar.models.components import ResidualBlock, activation_module
from etastar.models.config import ResidualConfig

__all__ = ["ResMLP", "ResMLPConfig"]


@dataclass(frozen=True)
class ResMLPConfig(ResidualConfig):
    """A pre-activation residual perceptron.

    Attributes:
        in_features: Numbers in one input once it is flattened (8 x 8 pixels by default).
    """

    in_features: int = 64


class ResMLP(nn.Module):
    """`head(phi(blocks(stem(x))))`; effective depth = depth + 2.

    With one-layer branches this is the residual network of [AM].

    Args:
        config: Sizes and options; see `ResidualConfig` and `NetworkConfig`.

    Example:
        >>> import torch
        >>> ResMLP(ResMLPConfig(depth=3, width=16, branch_layers=2))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ResMLPConfig) -> None:
        super().__init__()
        # the order of drawing: stored results depend on it
        layer = partial(nn.Linear, config.width, config.width, bias=config.bias)
        blocks = [ResidualBlock(config, layer, nn.BatchNorm1d, "fc") for _ in range(config.depth)]
        self.stem = nn.Linear(config.in_features, config.width, bias=config.bias)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm1d(config.width) if config.batch_norm else nn.Identity()
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of inputs (batch, ...), which are flattened."""
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.activation(self.norm(x)))
        return logits
