"""The networks of the zoo by name, each with example inputs: a batch of two, always the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.components import NetworkConfig
from etastar.models.feedforward import (
    MLP,
    CNN1d,
    CNN1dConfig,
    CNN2d,
    CNN2dConfig,
    MLPConfig,
    ResMLP,
    ResMLPConfig,
    ResNet,
    ResNetConfig,
)
from etastar.models.transformer import GPT, GPTConfig, ViT, ViTConfig

_BATCH = 2


@dataclass(frozen=True)
class ZooEntry:
    """One model of the zoo.

    Attributes:
        network: Makes the network of a configuration.
        config: Class of its configuration; `depth` and `width` come first.
        inputs: Arguments that say the shape of one input, after the batch.
    """

    network: Callable[[Any], nn.Module]
    config: type[NetworkConfig]
    inputs: tuple[str, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments and their defaults, in order."""
        return {field.name: field.default for field in fields(self.config)}


_IMAGE = ("in_channels", "image_size", "image_size")

ZOO: dict[str, ZooEntry] = {
    "mlp": ZooEntry(MLP, MLPConfig, ("in_features",)),
    "cnn1d": ZooEntry(CNN1d, CNN1dConfig, ("in_channels", "length")),
    "cnn2d": ZooEntry(CNN2d, CNN2dConfig, _IMAGE),
    "resmlp": ZooEntry(ResMLP, ResMLPConfig, ("in_features",)),
    "resnet": ZooEntry(ResNet, ResNetConfig, _IMAGE),
    "vit": ZooEntry(ViT, ViTConfig, _IMAGE),
    "gpt": ZooEntry(GPT, GPTConfig, ("context",)),
}


def _configured(name: str, arguments: dict[str, Any]) -> tuple[ZooEntry, NetworkConfig]:
    if name not in ZOO:
        raise ModelSpecError(f"model {name!r}", "one of: " + ", ".join(ZOO), "choose a listed one")
    entry = ZOO[name]
    unknown = [argument for argument in arguments if argument not in entry.arguments]
    if unknown:
        raise ModelSpecError(
            f"{name} with {', '.join(unknown)}",
            "arguments out of: " + ", ".join(entry.arguments),
            "leave out or rename what is not listed",
        )
    return entry, entry.config(**arguments)


def build(name: str, **kwargs: Any) -> nn.Module:
    """A network of the zoo, drawn from PyTorch's global random numbers.

    Args:
        name: A key of `ZOO`.
        **kwargs: Arguments of its configuration.

    Returns:
        The network, in training mode, with PyTorch's own initialization.

    Raises:
        ModelSpecError: The name, an argument or a value is not accepted.

    Example:
        >>> sum(p.numel() for p in build("mlp", depth=2, width=8).parameters())
        682
    """
    entry, config = _configured(name, kwargs)
    return entry.network(config)


def example_inputs(name: str, **kwargs: Any) -> tuple[Tensor, ...]:
    """A batch of two inputs for `build(name, **kwargs)`; the same at every call.

    Args:
        name: A key of `ZOO`.
        **kwargs: Arguments of its configuration, as given to `build`.

    Returns:
        The positional arguments of the network's forward.

    Raises:
        ModelSpecError: The name, an argument or a value is not accepted.

    Example:
        >>> example_inputs("gpt", depth=3, context=16)[0].shape
        torch.Size([2, 16])
    """
    entry, config = _configured(name, kwargs)
    shape = (_BATCH, *(getattr(config, argument) for argument in entry.inputs))
    generator = torch.Generator().manual_seed(0)
    if isinstance(config, GPTConfig):
        return (torch.randint(config.vocabulary, shape, generator=generator),)
    return (torch.randn(shape, generator=generator),)
