"""What all networks of the zoo share (settings, activations); chains and residual networks.

These are pre-activation, of linear layers or of convolutions. Width and image size are constant:
depth is the only thing that grows with `depth`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_type_hints

from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.typed import require_number, require_type

ActivationName = Literal["relu", "gelu", "tanh", "silu", "identity"]
"""Names that `activation_module` knows."""

Padding = Literal["zeros", "circular"]
"""What a convolution reads beyond the edge."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


@dataclass(frozen=True)
class NetworkConfig:
    """Settings of the zoo's networks, each of which takes those that its entry lists.

    Values are checked against their annotations: an `int` is 1 or more, a `float` is finite, a
    `dropout` is in [0, 1), a `kernel_size` is odd.

    Attributes:
        depth: Hidden weight layers of a chain (the first one included, the head not); residual or
            Transformer blocks otherwise.
        width: Units, or channels, of every hidden layer, of the stream and inside the branches.
        activation: See `ActivationName`.
        bias: Whether the layers have biases; of a Transformer those of the blocks.
        num_classes: Outputs.
        in_features: Numbers in one input once it is flattened (8 x 8 pixels by default).
        in_channels: Channels of the input.
        length: Positions of a sequence (8 x 8 pixels); only example inputs depend on it.
        image_size: Height and width in pixels; of convolutions only example inputs depend on it.
        kernel_size: Taps per dimension, odd, so that the size is kept.
        padding: See `Padding`.
        branch_layers: Weight layers of a branch.
        batch_norm: Whether a BatchNorm stands before every activation.
        dropout: Probability of dropping an input of a branch's weight; in a Transformer an
            attention weight or an output of a branch.
        branch_multiplier: Factor m on each branch's output in the forward pass.
        head_width: Units of one attention head; it stays and the number of heads grows with width,
            so that the attention logits' scale 1 / sqrt(head_width) does not depend on width.
        parallel: Whether attention and feed-forward read the same norm and are added at once.
        affine: Whether the norms of a Transformer have gains and shifts.
        patch_size: Height and width of a patch in pixels; a divisor of `image_size`.
        vocabulary: Number of tokens (bytes by default).
        context: Longest input in tokens.
        tied: Whether the head shares its weight with the embedding.

    Raises:
        ModelSpecError: A value is not accepted.
    """

    depth: int = 4
    width: int = 64
    activation: ActivationName = "relu"
    bias: bool = True
    num_classes: int = 10
    in_features: int = 64
    in_channels: int = 1
    length: int = 64
    image_size: int = 8
    kernel_size: int = 3
    padding: Padding = "zeros"
    branch_layers: Literal[1, 2] = 1
    batch_norm: bool = False
    dropout: float = 0.0
    branch_multiplier: float = 1.0
    head_width: int = 16
    parallel: bool = False
    affine: bool = True
    patch_size: int = 2
    vocabulary: int = 256
    context: int = 32
    tied: bool = False

    def __post_init__(self) -> None:
        for name, annotation in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if annotation is int:
                require_number(name, value, error=ModelSpecError, least=1, whole=True)
            require_type(name, value, annotation)
            if name == "dropout" and not 0 <= value < 1:
                raise ModelSpecError(f"{name}={value!r}", "a number in [0, 1)", f"change {name}")
            if name == "kernel_size" and value % 2 == 0:
                raise ModelSpecError(
                    f"{name}={value}", "an odd kernel, which keeps the size", "use 1, 3, 5, ..."
                )


def activation_module(name: str) -> nn.Module:
    """A new module of the named activation; see `ActivationName`."""
    return _ACTIVATIONS[name]()


def add_branch(x: Tensor, branch: Tensor, multiplier: float) -> Tensor:
    """The residual addition x + multiplier * branch, m of [TP6] (K^(-1/2)) and [CP] (1/K).

    At 1.0 nothing is multiplied, so that the network is the ordinary one.

    Example:
        >>> import torch
        >>> add_branch(torch.ones(2), torch.full((2,), 4.0), 0.25)
        tensor([2., 2.])
    """
    if multiplier == 1.0:
        return x + branch
    return x + multiplier * branch


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
