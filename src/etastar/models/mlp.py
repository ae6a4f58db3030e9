"""A plain chain of linear layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from etastar.models.components import activation_module
from etastar.models.config import NetworkConfig

__all__ = ["MLP", "MLPConfig"]


@dataclass(frozen=True)
class MLPConfig(NetworkConfig):
    """A multilayer perceptron.

    Attributes:
        in_features: Numbers in one input once it is flattened (8 x 8 pixels by default).
        num_classes: Outputs.
    """

    in_features: int = 64
    num_classes: int = 10


class MLP(nn.Module):
    """`head(phi(W_depth ... phi(W_1 x)))`, the network of [JE]; effective depth = depth + 1.

    Args:
        config: Sizes and options; see `NetworkConfig` for those that all networks have.

    Example:
        >>> import torch
        >>> MLP(MLPConfig(depth=3, width=16))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        widths = [config.in_features] + [config.width] * config.depth
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, config.width, bias=config.bias) for fan_in in widths[: config.depth]
        )
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of inputs (batch, ...), which are flattened."""
        x = x.flatten(1)
        for layer in self.layers:
            x = self.activation(layer(x))
        logits: Tensor = self.head(x)
        return logits
