"""Activations by name."""

from __future__ import annotations

from torch import nn

from etastar.models.arguments import require_choice

__all__ = ["ACTIVATIONS", "activation_module"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def activation_module(name: str) -> nn.Module:
    """A new module of the named activation.

    Args:
        name: A key of `ACTIVATIONS`.

    Returns:
        The module, without parameters.

    Raises:
        ModelSpecError: The name is not known.

    Example:
        >>> activation_module("relu")
        ReLU()
    """
    require_choice("activation", name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name]()
