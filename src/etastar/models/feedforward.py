"""Chains and pre-activation residual networks, of linear layers and of convolutions.

Width and image size are constant: depth is the only thing that grows with `depth`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from etastar.models.components import NetworkConfig, activation_module, add_branch

_Layer = Callable[..., nn.Module]
"""Makes a weight layer of a number of inputs, a number of outputs and `bias`."""

_IMAGE_DIMS = 3  # channels, height, width


def _convolution(config: NetworkConfig, kind: _Layer) -> _Layer:
    size = config.kernel_size
    return partial(kind, kernel_size=size, padding=size // 2, padding_mode=config.padding)


class Chain(nn.Module):
    """`head(mean(phi(W_depth ... phi(W_1 x))))`, the mean over positions where there are any.

    With linear layers it is the network of [JE]; effective depth = depth + 1.
    """

    def __init__(self, config: NetworkConfig, layer: _Layer, fan_in: int, *, flat: int) -> None:
        super().__init__()
        self.flat = flat
        fans_in = [fan_in] + [config.width] * (config.depth - 1)
        self.layers = nn.ModuleList(layer(n, config.width, bias=config.bias) for n in fans_in)
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, ...), flattened from dimension `flat` on."""
        x = x.flatten(self.flat)
        for layer in self.layers:
            x = self.activation(layer(x))
        return _logits(self.head, x)


def _logits(head: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = head(x.mean(tuple(range(2, x.ndim))) if x.ndim > 2 else x)
    return logits


def mlp(config: NetworkConfig) -> Chain:
    """A multilayer perceptron, of inputs that are flattened."""
    return Chain(config, nn.Linear, config.in_features, flat=1)


def cnn1d(config: NetworkConfig) -> Chain:
    """Convolutions of one width over sequences, or over images read row after row."""
    return Chain(config, _convolution(config, nn.Conv1d), config.in_channels, flat=2)


def cnn2d(config: NetworkConfig) -> Chain:
    """Convolutions of one width over images."""
    return Chain(config, _convolution(config, nn.Conv2d), config.in_channels, flat=_IMAGE_DIMS)


class _Block(nn.Module):
    """`x + m W1(phi(x))`, or with two weight layers `x + m W2(phi(W1(phi(x))))`.

    With `batch_norm` each activation is `phi(norm(.))`; dropout stands before each weight. The
    weight layers are called by `name`: "fc" for fc1 and fc2.
    """

    def __init__(self, config: NetworkConfig, layer: _Layer, norm: _Layer, name: str) -> None:
        super().__init__()
        width = config.width
        self.places = [(f"norm{k + 1}", f"{name}{k + 1}") for k in range(config.branch_layers)]
        for norm_name, layer_name in self.places:
            self.add_module(norm_name, norm(width) if config.batch_norm else nn.Identity())
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


class ResidualNetwork(nn.Module):
    """`head(mean(phi(blocks(stem(x)))))`, the mean over positions where there are any.

    With linear layers and one-layer branches it is the residual network of [AM]; effective depth =
    depth + 2.
    """

    def __init__(
        self, config: NetworkConfig, stem: nn.Module, blocks: list[_Block], norm: _Layer, flat: int
    ) -> None:
        super().__init__()
        self.flat = flat
        self.stem, self.blocks = stem, nn.ModuleList(blocks)
        self.norm = norm(config.width) if config.batch_norm else nn.Identity()
        self.activation = activation_module(config.activation)
        self.head = nn.Linear(config.width, config.num_classes, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of (batch, ...), flattened from dimension `flat` on."""
        x = self.stem(x.flatten(self.flat))
        for block in self.blocks:
            x = block(x)
        return _logits(self.head, self.activation(self.norm(x)))


def resmlp(config: NetworkConfig) -> ResidualNetwork:
    """A pre-activation residual perceptron, of inputs that are flattened."""
    # the order of drawing, blocks before stem: stored results depend on it
    norm = nn.BatchNorm1d
    blocks = [_Block(config, nn.Linear, norm, "fc") for _ in range(config.depth)]
    stem = nn.Linear(config.in_features, config.width, bias=config.bias)
    return ResidualNetwork(config, stem, blocks, norm, 1)


def resnet(config: NetworkConfig) -> ResidualNetwork:
    """A pre-activation ResNet without downsampling."""
    norm, layer = nn.BatchNorm2d, _convolution(config, nn.Conv2d)
    stem = layer(config.in_channels, config.width, bias=config.bias)
    blocks = [_Block(config, layer, norm, "conv") for _ in range(config.depth)]
    return ResidualNetwork(config, stem, blocks, norm, _IMAGE_DIMS)
