"""A plain chain of linear layers."""

from __future__ import annotations

from torch import Tensor, nn

from etastar.models.activation import activation_module
from etastar.models.arguments import require_positive

__all__ = ["MLP", "mlp"]


class MLP(nn.Module):
    """`head(phi(W_depth ... phi(W_1 x)))`; made by `mlp`."""

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        in_features: int,
        num_classes: int,
        activation: str,
        bias: bool,
    ) -> None:
        super().__init__()
        widths = [in_features] + [width] * depth
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, width, bias=bias) for fan_in in widths[:depth]
        )
        self.activation = activation_module(activation)
        self.head = nn.Linear(width, num_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of inputs (batch, ...), which are flattened."""
        x = x.flatten(1)
        for layer in self.layers:
            x = self.activation(layer(x))
        logits: Tensor = self.head(x)
        return logits


def mlp(
    depth: int = 4,
    width: int = 64,
    *,
    in_features: int = 64,
    num_classes: int = 10,
    activation: str = "relu",
    bias: bool = True,
) -> MLP:
    """A multilayer perceptron; effective depth = depth + 1.

    Args:
        depth: Number of hidden weight layers, the first one included and the head not.
        width: Units of every hidden layer.
        in_features: Numbers in one input once it is flattened (8 x 8 pixels by default).
        num_classes: Outputs.
        activation: A key of `etastar.models.activation.ACTIVATIONS`.
        bias: Whether the layers have biases.

    Returns:
        The network with PyTorch's own initialization.

    Raises:
        ModelSpecError: A size is not a positive integer, or the activation is unknown.

    Example:
        >>> import torch
        >>> mlp(3, 16)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])

    The network of [JE].
    """
    require_positive(depth=depth, width=width, in_features=in_features, num_classes=num_classes)
    return MLP(
        depth,
        width,
        in_features=in_features,
        num_classes=num_classes,
        activation=activation,
        bias=bias,
    )
