"""What the zoo's networks share: their configurations, checked, and activations by name."""

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
