"""What every model source gives: a model and the inputs to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError, foreign_errors_as
from etastar.formatting import short_repr

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
    __repr__ = short_repr


@dataclass(frozen=True)
class ModelSource:
    """One form of MODEL on the command line: `prefix:NAME`.

    A source builds a model from settings, with random weights, and works its example inputs out.
    It downloads nothing. What its functions raise becomes a `ModelSpecError`.

    Attributes:
        prefix: What stands before the colon.
        build: `build(name, settings)` is the model, on the default device.
        inputs: `inputs(name, settings, model)` are positional and keyword inputs of a model that
            `build` gave, on the CPU.
    """

    prefix: str
    build: Callable[[str, dict[str, Any]], nn.Module]
    inputs: Callable[[str, dict[str, Any], Any], GivenInputs]

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
                return LoadedModel(model, *self.inputs(name, settings, model))
            try:
                own = self.inputs(name, settings, model)
            except ModelSpecError:
                return LoadedModel(model, *given)
        _require_dtypes(spec, given, own)
        return LoadedModel(model, *given)


def _require_dtypes(spec: str, given: GivenInputs, own: GivenInputs) -> None:
    """Refuse what the model would not run on; shapes and further inputs are the caller's."""
    usual: dict[Any, Tensor] = {**dict(enumerate(own[0], 1)), **own[1]}
    indices = (torch.int32, torch.int64)
    for place, tensor in [*enumerate(given[0], 1), *given[1].items()]:
        dtype = usual[place].dtype if place in usual else tensor.dtype
        if tensor.dtype != dtype and not (tensor.dtype in indices and dtype in indices):
            raise ModelSpecError(
                f"{spec} with input {place} of {tensor.dtype}",
                f"{dtype}",
                "give --input SHAPE:DTYPE with that dtype, or leave it out",
            )
