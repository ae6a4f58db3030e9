"""The project's own models by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from etastar.models import build, example_inputs
from etastar.sources.loaded import LoadedModel, ModelSource

__all__ = ["ZooSource"]


class ZooSource(ModelSource):
    """`zoo:NAME`: an own model; settings are arguments of its factory."""

    prefix = "zoo"

    def build(self, name: str, settings: dict[str, Any]) -> nn.Module:
        """See `ModelSource.build`."""
        return build(name, **settings)

    def inputs(self, name: str, settings: dict[str, Any], model: nn.Module) -> LoadedModel:
        """See `ModelSource.inputs`."""
        return LoadedModel(model, example_inputs(name, **settings))
