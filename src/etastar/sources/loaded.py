"""What every model source gives: a model and the inputs to run it on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

__all__ = ["LoadedModel", "ModelSource"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with example inputs.

    Attributes:
        model: The model.
        args: Positional example inputs.
        kwargs: Keyword example inputs.
    """

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


class ModelSource(ABC):
    """One form of MODEL on the command line: `prefix:NAME`.

    A source builds a model from settings, with random weights, and works its example inputs out.
    It downloads nothing.
    """

    prefix: str
    """What stands before the colon."""

    builds_on_meta: bool = True
    """Whether its models may be built on the meta device, for their shapes alone."""

    @abstractmethod
    def build(self, name: str, settings: dict[str, Any]) -> nn.Module:
        """Build the model on the default device.

        Args:
            name: What stands after the colon.
            settings: Settings of the model.

        Returns:
            The model.

        Raises:
            ModelSpecError: Unknown name or setting.
            MissingExtraError: The library is not installed.
        """

    @abstractmethod
    def inputs(self, name: str, settings: dict[str, Any], model: nn.Module) -> LoadedModel:
        """Example inputs of a model that `build` gave.

        Args:
            name: What stands after the colon.
            settings: Settings of the model.
            model: The model.

        Returns:
            The model with its inputs, on the CPU.

        Raises:
            ModelSpecError: The inputs cannot be worked out.
        """

    def load(
        self,
        name: str,
        settings: dict[str, Any],
        *,
        device: str,
        given: tuple[tuple[Any, ...], dict[str, Any]] | None,
    ) -> LoadedModel:
        """Build the model and put its inputs beside it.

        Args:
            name: What stands after the colon.
            settings: Settings of the model.
            device: "cpu", or "meta" for shapes alone.
            given: Positional and keyword inputs of the caller; None to work them out.

        Returns:
            The model with its inputs.
        """
        with torch.device(device if self.builds_on_meta else "cpu"):
            model = self.build(name, settings)
        if given is not None:
            return LoadedModel(model, *given)
        return self.inputs(name, settings, model)
