"""Configurations of the zoo's networks, and the checks that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_type_hints

from etastar.errors import ModelSpecError
from etastar.typed import require_number, require_type

__all__ = ["ActivationName", "NetworkConfig", "Padding", "ResidualConfig"]

ActivationName = Literal["relu", "gelu", "tanh", "silu", "identity"]
"""Names that `activation_module` knows."""

Padding = Literal["zeros", "circular"]
"""What a convolution reads beyond the edge."""


@dataclass(frozen=True)
class NetworkConfig:
    """What every network of the zoo has; its classes state further arguments and their defaults.

    Values are checked against their annotations: an `int` is 1 or more, a `float` is finite, a
    `dropout` is in [0, 1), a `kernel_size` is odd.

    Attributes:
        depth: Hidden weight layers of a chain (the first one included, the head not); residual or
            Transformer blocks otherwise.
        width: Units, or channels, of every hidden layer, of the stream and inside the branches.
        activation: See `ActivationName`.
        bias: Whether the layers have biases.

    Raises:
        ModelSpecError: A value is not accepted.
    """

    depth: int = 4
    width: int = 64
    activation: ActivationName = "relu"
    bias: bool = True

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


@dataclass(frozen=True)
class ResidualConfig(NetworkConfig):
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
