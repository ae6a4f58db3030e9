"""The networks of the zoo by name, each with example inputs: a batch of two, always the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.feedforward import NetworkConfig, cnn1d, cnn2d, mlp, resmlp, resnet
from etastar.models.transformer import GPT, ViT

_BATCH = 2


@dataclass(frozen=True)
class ZooEntry:
    """One model of the zoo.

    Attributes:
        network: Makes the network of a configuration.
        defaults: The configuration without arguments.
        further: Names of the settings that it takes beside depth, width, activation and bias.
        inputs: Settings that say the shape of one input, after the batch.
    """

    network: Callable[[NetworkConfig], nn.Module]
    defaults: NetworkConfig
    further: tuple[str, ...]
    inputs: tuple[str, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments and their defaults, in order."""
        names = ("depth", "width", "activation", "bias", *self.further)
        return {name: getattr(self.defaults, name) for name in names}


_WIDE, _NARROW = NetworkConfig(), NetworkConfig(width=16)
_TRANSFORMER = NetworkConfig(depth=2, activation="gelu")
_FLAT = ("num_classes", "in_features")
_CONVOLUTION = ("num_classes", "in_channels", "kernel_size", "padding")
_BRANCH = ("dropout", "branch_multiplier")
_BRANCHES = ("branch_layers", "batch_norm", *_BRANCH)
_BLOCKS = ("head_width", "parallel", "affine", *_BRANCH)
_PATCHES = ("num_classes", "in_channels", "image_size", "patch_size")
_IMAGE = ("in_channels", "image_size", "image_size")

ZOO: dict[str, ZooEntry] = {
    "mlp": ZooEntry(mlp, _WIDE, _FLAT, ("in_features",)),
    "cnn1d": ZooEntry(cnn1d, _NARROW, (*_CONVOLUTION, "length"), ("in_channels", "length")),
    "cnn2d": ZooEntry(cnn2d, _NARROW, (*_CONVOLUTION, "image_size"), _IMAGE),
    "resmlp": ZooEntry(resmlp, _WIDE, (*_FLAT, *_BRANCHES), ("in_features",)),
    "resnet": ZooEntry(resnet, _NARROW, (*_CONVOLUTION, "image_size", *_BRANCHES), _IMAGE),
    "vit": ZooEntry(ViT, _TRANSFORMER, (*_BLOCKS, *_PATCHES), _IMAGE),
    "gpt": ZooEntry(GPT, _TRANSFORMER, (*_BLOCKS, "vocabulary", "context", "tied"), ("context",)),
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
    config = replace(entry.defaults, **arguments)
    for whole, part in (("width", "head_width"), ("image_size", "patch_size")):
        sizes = getattr(config, whole), getattr(config, part)
        if part in entry.further and sizes[0] % sizes[1]:
            raise ModelSpecError(
                f"{whole}={sizes[0]}, {part}={sizes[1]}",
                f"a multiple of {part} as {whole}",
                "change one of them",
            )
    return entry, config


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
    if "vocabulary" in entry.further:
        return (torch.randint(config.vocabulary, shape, generator=generator),)
    return (torch.randn(shape, generator=generator),)
