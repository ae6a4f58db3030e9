"""A residual network of linear layers."""

from __future__ import annotations

from torch import Tensor, nn

from etastar.models.activation import activation_module
from etastar.models.arguments import (
    require_choice,
    require_finite,
    require_fraction,
    require_positive,
)
from etastar.models.branch import add_branch

__all__ = ["ResMLP", "ResMLPBlock", "resmlp"]


class ResMLPBlock(nn.Module):
    """`x + m fc1(phi(x))`, or `x + m fc2(phi(fc1(phi(x))))`.

    With `batch_norm` each activation is `phi(norm(.))`; dropout stands before each weight.
    """

    def __init__(
        self,
        width: int,
        *,
        branch_layers: int,
        activation: str,
        batch_norm: bool,
        dropout: float,
        bias: bool,
        branch_multiplier: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.fc1 = nn.Linear(width, width, bias=bias)
        self.norm2: nn.Module | None = None
        self.fc2: nn.Module | None = None
        if branch_layers == 2:
            self.norm2 = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
            self.fc2 = nn.Linear(width, width, bias=bias)
        self.activation = activation_module(activation)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.branch_multiplier = branch_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """The stream (batch, width) after this block."""
        branch = self.fc1(self.dropout(self.activation(self.norm1(x))))
        if self.norm2 is not None and self.fc2 is not None:
            branch = self.fc2(self.dropout(self.activation(self.norm2(branch))))
        return add_branch(x, branch, self.branch_multiplier)


class ResMLP(nn.Module):
    """`head(phi(blocks(stem(x))))`; made by `resmlp`."""

    def __init__(
        self,
        width: int,
        *,
        in_features: int,
        num_classes: int,
        blocks: list[ResMLPBlock],
        activation: str,
        batch_norm: bool,
        bias: bool,
    ) -> None:
        super().__init__()
        self.stem = nn.Linear(in_features, width, bias=bias)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.activation = activation_module(activation)
        self.head = nn.Linear(width, num_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of inputs (batch, ...), which are flattened."""
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.activation(self.norm(x)))
        return logits


def resmlp(
    depth: int = 4,
    width: int = 64,
    *,
    in_features: int = 64,
    num_classes: int = 10,
    branch_layers: int = 1,
    activation: str = "relu",
    batch_norm: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
    branch_multiplier: float = 1.0,
) -> ResMLP:
    """A pre-activation residual perceptron; effective depth = depth + 2.

    Args:
        depth: Number of residual blocks, K.
        width: Units of the stream and inside the branches.
        in_features: Numbers in one input once it is flattened (8 x 8 pixels by default).
        num_classes: Outputs.
        branch_layers: 1 for `x + fc1(phi(x))`, 2 for `x + fc2(phi(fc1(phi(x))))`.
        activation: A key of `etastar.models.activation.ACTIVATIONS`.
        batch_norm: Whether a BatchNorm stands before every activation.
        dropout: Probability of dropping an input of a branch's weight.
        bias: Whether the layers have biases.
        branch_multiplier: Factor on each branch's output in the forward pass.

    Returns:
        The network with PyTorch's own initialization.

    Raises:
        ModelSpecError: A size is no positive integer, or an option is unknown.

    Example:
        >>> import torch
        >>> resmlp(3, 16, branch_layers=2)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])

    The residual network of [AM] (one-layer branches).
    """
    require_positive(depth=depth, width=width, in_features=in_features, num_classes=num_classes)
    require_choice("branch_layers", branch_layers, (1, 2))
    require_fraction("dropout", dropout)
    require_finite("branch_multiplier", branch_multiplier)
    blocks = [
        ResMLPBlock(
            width,
            branch_layers=branch_layers,
            activation=activation,
            batch_norm=batch_norm,
            dropout=dropout,
            bias=bias,
            branch_multiplier=branch_multiplier,
        )
        for _ in range(depth)
    ]
    return ResMLP(
        width,
        in_features=in_features,
        num_classes=num_classes,
        blocks=blocks,
        activation=activation,
        batch_norm=batch_norm,
        bias=bias,
    )
