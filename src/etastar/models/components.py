"""What the zoo's networks share: their settings, checked, and activations by name."""

from __future__ import annotations

from dataclasses import dataclass
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
