"""The registry of the zoo: a name, a factory, its example inputs."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etastar.errors import ModelSpecError
from etastar.models.cnn1d import cnn1d
from etastar.models.cnn2d import cnn2d
from etastar.models.gpt import gpt
from etastar.models.inputs import feature_inputs, image_inputs, sequence_inputs, token_inputs
from etastar.models.mlp import mlp
from etastar.models.resmlp import resmlp
from etastar.models.resnet import resnet
from etastar.models.vit import vit

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

__all__ = ["ZOO", "ZooEntry", "build", "example_inputs"]


@dataclass(frozen=True)
class ZooEntry:
    """One model of the zoo.

    Attributes:
        name: What `build` knows it by.
        factory: Makes the network; `depth` and `width` first, everything else by keyword.
        inputs: Makes a batch of two; its arguments are some of the factory's.
        depth_means: What `depth` counts.
    """

    name: str
    factory: Callable[..., nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]
    depth_means: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The factory's arguments and their defaults, in order."""
        parameters = inspect.signature(self.factory).parameters.values()
        return {parameter.name: parameter.default for parameter in parameters}


_CHAIN = "hidden weight layers"
_RESIDUAL = "residual blocks"
_TRANSFORMER = "Transformer blocks"

_ENTRIES = (
    ZooEntry("mlp", mlp, feature_inputs, _CHAIN),
    ZooEntry("cnn1d", cnn1d, sequence_inputs, _CHAIN),
    ZooEntry("cnn2d", cnn2d, image_inputs, _CHAIN),
    ZooEntry("resmlp", resmlp, feature_inputs, _RESIDUAL),
    ZooEntry("resnet", resnet, image_inputs, _RESIDUAL),
    ZooEntry("vit", vit, image_inputs, _TRANSFORMER),
    ZooEntry("gpt", gpt, token_inputs, _TRANSFORMER),
)

ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in _ENTRIES}


def _entry(name: str, arguments: dict[str, Any]) -> ZooEntry:
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
    for argument, value in arguments.items():
        if isinstance(entry.arguments[argument], bool) and not isinstance(value, bool):
            raise ModelSpecError(f"{argument}={value!r}", "True or False", f"change {argument}")
    return entry


def build(name: str, **kwargs: Any) -> nn.Module:
    """A network of the zoo, drawn from PyTorch's global random numbers.

    Args:
        name: A key of `ZOO`.
        **kwargs: Arguments of its factory.

    Returns:
        The network, in training mode, with PyTorch's own initialization.

    Raises:
        ModelSpecError: The name, an argument or a value is not accepted.

    Example:
        >>> sum(p.numel() for p in build("mlp", depth=2, width=8).parameters())
        682
    """
    return _entry(name, kwargs).factory(**kwargs)


def example_inputs(name: str, **kwargs: Any) -> tuple[Tensor, ...]:
    """A batch of two inputs for `build(name, **kwargs)`; the same at every call.

    Args:
        name: A key of `ZOO`.
        **kwargs: Arguments of its factory, as given to `build`.

    Returns:
        The positional arguments of the network's forward.

    Raises:
        ModelSpecError: The name or an argument is not accepted.

    Example:
        >>> example_inputs("gpt", depth=3, context=16)[0].shape
        torch.Size([2, 16])
    """
    entry = _entry(name, kwargs)
    settings = entry.arguments | kwargs
    needed = inspect.signature(entry.inputs).parameters
    return entry.inputs(**{argument: settings[argument] for argument in needed})
