"""Pre-activation residual networks of constant width: of linear layers, and of convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from etastar.models.components import NetworkConfig, Padding, activation_module, add_branch

__all__ = ["ResMLP", "ResMLPConfig", "ResNet", "ResNetConfig"]


@dataclass(frozen=True)
class _ResidualConfig(NetworkConfig):
    """A residual network: `x + m W1(phi(x))`, or with two layers `x + m W2(phi(W1(phi(x))))`.

    Attributes:
        num_classes: Outputs.
        branch_layers: Weight layers of a branch.
        batch_norm: Whether a BatchNorm stands before every activation.
        dropout: Probability of dropping an input of a branch's weight.
        branch_multiplier: Factor m on each branch's output in the forward pass.
    """

    num_classes: int = 10
    branch_layers: Literal[1, 2] = 1
    batch_norm: bool = False
    dropout: float = 0.0
    branch_multiplier: float = 1.0


@dataclass(frozen=True)
class ResMLPConfig(_ResidualConfig):
    """A pre-activation residual perceptron.

    Attributes:
        in_features: Numbers in one input once it is flattened (8 x 8 pixels by default).
    """

    in_features: int = 64


@dataclass(frozen=True)
class ResNetConfig(_ResidualConfig):
    """A pre-activation ResNet without downsampling.

    Attributes:
        in_channels: Channels of the input.
        image_size: Height and width in pixels; only example inputs depend on it.
        kernel_size: Taps per dimension, odd.
        padding: See `Padding`.
    """

    width: int = 16
    in_channels: int = 1
    image_size: int = 8
    kernel_size: int = 3
    padding: Padding = "zeros"


class _ResidualBlock(nn.Module):
    """`x + m W1(phi(x))`, or with two weight layers `x + m W2(phi(W1(phi(x))))`.

    With `batch_norm` each activation is `phi(norm(.))`; dropout stands before each weight. The
    weight layers are called by `name`: "fc" for fc1 and fc2.
    """

    def __init__(
        self,
        config: _ResidualConfig,
        layer: Callable[[], nn.Module],
        norm: Callable[[], nn.Module],
        name: str,
    ) -> None:
        super().__init__()
        self.places = [(f"norm{k + 1}", f"{name}{k + 1}") for k in range(config.branch_layers)]
        for norm_name, layer_name in self.places:
            self.add_module(norm_name, norm())
            self.add_module(layer_name, layer())
        self.activation = activation_module(config.activation)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.branch_multiplier = config.branch_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """The stream after this block, of the shape of the stream before it."""
        branch = x
        for norm_name, layer_name in self.places:
            normed = self.activation(self.get_submodule(norm_name)(branch))
            branch = self.get_submodule(layer_name)(self.dropout(normed))
        return add_branch(x, branch, self.branch_multiplier)


class _ResidualNetwork(nn.Module):
    """`head(mean(phi(blocks(stem(x)))))`, the mean over positions where there are any."""

    def __init__(
        self,
        config: _ResidualConfig,
        stem: nn.Module,
        blocks: Sequence[nn.Module],
        norm: nn.Module,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, features or channels, ...)."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.activation(self.norm(x))
        logits: Tensor = self.head(x.mean((-2, -1)) if x.ndim > 2 else x)
        return logits


class ResMLP(_ResidualNetwork):
    """`head(phi(blocks(stem(x))))`; effective depth = depth + 2.

    With one-layer branches this is the residual network of [AM].

    Example:
        >>> import torch
        >>> ResMLP(ResMLPConfig(depth=3, width=16, branch_layers=2))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ResMLPConfig) -> None:
        # the order of drawing, blocks before stem: stored results depend on it
        width, bias = config.width, config.bias
        layer = partial(nn.Linear, width, width, bias=bias)
        norm = partial(nn.BatchNorm1d, width) if config.batch_norm else nn.Identity
        blocks = [_ResidualBlock(config, layer, norm, "fc") for _ in range(config.depth)]
        stem = nn.Linear(config.in_features, width, bias=bias)
        super().__init__(config, stem, blocks, norm())

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of inputs (batch, ...), which are flattened."""
        return super().forward(x.flatten(1))


class ResNet(_ResidualNetwork):
    """`head(mean(phi(blocks(stem(x)))))`; effective depth = depth + 2.

    Stem, K blocks at constant width and image size, mean over positions, linear head: depth is the
    only thing that grows with K.

    Example:
        >>> import torch
        >>> ResNet(ResNetConfig(depth=3, width=8, branch_layers=2))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ResNetConfig) -> None:
        width, size = config.width, config.kernel_size
        convolution = partial(
            nn.Conv2d,
            out_channels=width,
            kernel_size=size,
            padding=size // 2,
            padding_mode=config.padding,
            bias=config.bias,
        )
        norm = partial(nn.BatchNorm2d, width) if config.batch_norm else nn.Identity
        layer = partial(convolution, width)
        stem = convolution(config.in_channels)
        blocks = [_ResidualBlock(config, layer, norm, "conv") for _ in range(config.depth)]
        super().__init__(config, stem, blocks, norm())
