"""What every model source gives: a model and the inputs to run it on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError, foreign_errors_as

__all__ = ["GivenInputs", "LoadedModel", "ModelSource"]

GivenInputs: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"
"""Positional and keyword inputs."""


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

    @abstractmethod
    def build(self, name: str, settings: dict[str, Any]) -> nn.Module:
        """Build the model on the default device; what it raises becomes a `ModelSpecError`.

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
        """Example inputs of a model that `build` gave; what it raises becomes a `ModelSpecError`.

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
        given: GivenInputs | None,
    ) -> LoadedModel:
        """Build the model and put its inputs beside it.

        Args:
            name: What stands after the colon.
            settings: Settings of the model.
            device: "cpu", or "meta" for shapes alone.
            given: Inputs of the caller; None to work them out.

        Returns:
            The model with its inputs.

        Raises:
            ModelSpecError: The library refuses the name or a setting, or given inputs are of a kind
                that the model does not take.
        """
        spec = f"{self.prefix}:{name}"
        with foreign_errors_as(
            ModelSpecError,
            f"{spec} with {settings}",
            "a name and settings of which a model can be built",
            "change the setting that it names, or run with --debug for the traceback",
        ):
            with torch.device(device):
                model = self.build(name, settings)
            if given is None:
                return self.inputs(name, settings, model)
            try:
                own = self.inputs(name, settings, model)
            except ModelSpecError:
                return LoadedModel(model, *given)
        _require_dtypes(spec, given, own)
        return LoadedModel(model, *given)


def _require_dtypes(spec: str, given: GivenInputs, own: LoadedModel) -> None:
    """Refuse what the model would not run on; shapes and further inputs are the caller's."""
    usual: dict[Any, Tensor] = {**dict(enumerate(own.args, 1)), **own.kwargs}
    indices = (torch.int32, torch.int64)
    for place, tensor in [*enumerate(given[0], 1), *given[1].items()]:
        dtype = usual[place].dtype if place in usual else tensor.dtype
        if tensor.dtype != dtype and not (tensor.dtype in indices and dtype in indices):
            raise ModelSpecError(
                f"{spec} with input {place} of {tensor.dtype}",
                f"{dtype}",
                "give --input SHAPE:DTYPE with that dtype, or leave it out",
            )
