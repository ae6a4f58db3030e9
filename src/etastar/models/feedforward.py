"""Chains and pre-activation residual networks, of linear layers and of convolutions.

Width and image size are constant: depth is the only thing that grows with `depth`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from etastar.models.components import NetworkConfig, Padding, activation_module, add_branch


@dataclass(frozen=True)
class _ClassifierConfig(NetworkConfig):
    num_classes: int = 10


@dataclass(frozen=True)
class MLPConfig(_ClassifierConfig):
    """A multilayer perceptron.

    Attributes:
        in_features: Numbers in one input once it is flattened (8 x 8 pixels by default).
        num_classes: Outputs.
    """

    in_features: int = 64


@dataclass(frozen=True)
class _ConvolutionConfig(_ClassifierConfig):
    """Convolutions of one size.

    Attributes:
        in_channels: Channels of the input.
        num_classes: Outputs.
        kernel_size: Taps per dimension, odd, so that the size is kept.
        padding: See `Padding`.
    """

    width: int = 16
    in_channels: int = 1
    kernel_size: int = 3
    padding: Padding = "zeros"

    def layer(self, kind: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        size = self.kernel_size
        return partial(kind, kernel_size=size, padding=size // 2, padding_mode=self.padding)


@dataclass(frozen=True)
class CNN1dConfig(_ConvolutionConfig):
    """Convolutions over sequences.

    Attributes:
        length: Positions of a sequence (8 x 8 pixels); only example inputs depend on it.
    """

    length: int = 64


@dataclass(frozen=True)
class CNN2dConfig(_ConvolutionConfig):
    """Convolutions over images.

    Attributes:
        image_size: Height and width in pixels; only example inputs depend on it.
    """

    image_size: int = 8


@dataclass(frozen=True)
class _ResidualConfig(_ClassifierConfig):
    """Branches, and what stands on them.

    Attributes:
        branch_layers: Weight layers of a branch.
        batch_norm: Whether a BatchNorm stands before every activation.
        dropout: Probability of dropping an input of a branch's weight.
        branch_multiplier: Factor m on each branch's output in the forward pass.
    """

    branch_layers: Literal[1, 2] = 1
    batch_norm: bool = False
    dropout: float = 0.0
    branch_multiplier: float = 1.0

    def norm(self, kind: Callable[[int], nn.Module]) -> nn.Module:
        return kind(self.width) if self.batch_norm else nn.Identity()


@dataclass(frozen=True)
class ResMLPConfig(MLPConfig, _ResidualConfig):
    """A pre-activation residual perceptron."""


@dataclass(frozen=True)
class ResNetConfig(CNN2dConfig, _ResidualConfig):
    """A pre-activation ResNet without downsampling."""


class _Chain(nn.Module):
    """`head(mean(phi(W_depth ... phi(W_1 x))))`, the mean over positions where there are any."""

    def __init__(
        self, config: _ClassifierConfig, in_features: int, layer: Callable[..., nn.Module]
    ) -> None:
        super().__init__()
        fans_in = [in_features] + [config.width] * (config.depth - 1)
        self.layers = nn.ModuleList(layer(n, config.width, bias=config.bias) for n in fans_in)
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, features or channels, ...)."""
        for layer in self.layers:
            x = self.activation(layer(x))
        return _logits(self.head, x)


def _logits(head: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = head(x.mean(tuple(range(2, x.ndim))) if x.ndim > 2 else x)
    return logits


class MLP(_Chain):
    """`head(phi(W_depth ... phi(W_1 x)))`, the network of [JE]; effective depth = depth + 1.

    Example:
        >>> import torch
        >>> MLP(MLPConfig(depth=3, width=16))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: MLPConfig) -> None:
        super().__init__(config, config.in_features, nn.Linear)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of inputs (batch, ...), which are flattened."""
        return super().forward(x.flatten(1))


class CNN2d(_Chain):
    """Convolutions of one width, the mean over positions, a head; effective depth = depth + 1.

    Example:
        >>> import torch
        >>> CNN2d(CNN2dConfig(depth=3, width=8))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: CNN2dConfig) -> None:
        super().__init__(config, config.in_channels, config.layer(nn.Conv2d))


class CNN1d(_Chain):
    """The same over sequences, or over images read row after row.

    Example:
        >>> import torch
        >>> CNN1d(CNN1dConfig(depth=3, width=8))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: CNN1dConfig) -> None:
        super().__init__(config, config.in_channels, config.layer(nn.Conv1d))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, channels, ...)."""
        return super().forward(x.flatten(2))


class _Block(nn.Module):
    """`x + m W1(phi(x))`, or with two weight layers `x + m W2(phi(W1(phi(x))))`.

    With `batch_norm` each activation is `phi(norm(.))`; dropout stands before each weight. The
    weight layers are called by `name`: "fc" for fc1 and fc2.
    """

    def __init__(
        self,
        config: _ResidualConfig,
        layer: Callable[..., nn.Module],
        norm: Callable[[int], nn.Module],
        name: str,
    ) -> None:
        super().__init__()
        width = config.width
        self.places = [(f"norm{k + 1}", f"{name}{k + 1}") for k in range(config.branch_layers)]
        for norm_name, layer_name in self.places:
            self.add_module(norm_name, config.norm(norm))
            self.add_module(layer_name, layer(width, width, bias=config.bias))
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
        self, config: _ResidualConfig, stem: nn.Module, blocks: list[_Block], norm: nn.Module
    ) -> None:
        super().__init__()
        self.stem, self.blocks, self.norm = stem, nn.ModuleList(blocks), norm
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, features or channels, ...)."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return _logits(self.head, self.activation(self.norm(x)))


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
        norm = nn.BatchNorm1d
        blocks = [_Block(config, nn.Linear, norm, "fc") for _ in range(config.depth)]
        stem = nn.Linear(config.in_features, config.width, bias=config.bias)
        super().__init__(config, stem, blocks, config.norm(norm))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of inputs (batch, ...), which are flattened."""
        return super().forward(x.flatten(1))


class ResNet(_ResidualNetwork):
    """`head(mean(phi(blocks(stem(x)))))`; effective depth = depth + 2.

    Example:
        >>> import torch
        >>> ResNet(ResNetConfig(depth=3, width=8, branch_layers=2))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ResNetConfig) -> None:
        norm, layer = nn.BatchNorm2d, config.layer(nn.Conv2d)
        stem = layer(config.in_channels, config.width, bias=config.bias)
        blocks = [_Block(config, layer, norm, "conv") for _ in range(config.depth)]
        super().__init__(config, stem, blocks, config.norm(norm))
