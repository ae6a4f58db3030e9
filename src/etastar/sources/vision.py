"""Models of timm and of torchvision, with random weights."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from etastar.errors import MissingExtraError, ModelSpecError
from etastar.sources.loaded import LoadedModel, ModelSource
from etastar.sources.settings import example_tensor

__all__ = ["TimmSource", "TorchvisionSource"]

_BATCH = 2


def _imported(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package, "timm") from error
    except Exception as error:
        raise ModelSpecError(
            f"{package}, which is installed but does not import: {error}",
            "torch and torchvision of releases that belong together",
            "install the pair from the same place, for example both from the CPU builds",
        ) from error


def _rejected(spec: str, settings: dict[str, Any], error: Exception) -> ModelSpecError:
    return ModelSpecError(
        f"{spec} with {settings}: {type(error).__name__}: {error}",
        "a model name and settings that the library accepts",
        "list its names with the library itself, and check the settings",
    )


class TimmSource(ModelSource):
    """`timm:NAME`: a model of timm; settings go to `timm.create_model`."""

    prefix = "timm"

    def build(self, name: str, settings: dict[str, Any]) -> nn.Module:
        """See `ModelSource.build`."""
        timm = _imported("timm")
        try:
            model: nn.Module = timm.create_model(name, pretrained=False, **settings)
        except Exception as error:
            raise _rejected(f"timm:{name}", settings, error) from error
        return model.eval()

    def inputs(self, name: str, settings: dict[str, Any], model: nn.Module) -> LoadedModel:
        """See `ModelSource.inputs`."""
        size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))
        channels = settings.get("in_chans", size[0])
        side = settings.get("img_size", size[1:])
        height, width = (side, side) if isinstance(side, int) else side
        return LoadedModel(model, (example_tensor((_BATCH, channels, height, width)),))


class TorchvisionSource(ModelSource):
    """`torchvision:NAME`: a model of torchvision; settings go to `torchvision.models.get_model`."""

    prefix = "torchvision"

    def build(self, name: str, settings: dict[str, Any]) -> nn.Module:
        """See `ModelSource.build`."""
        torchvision = _imported("torchvision")
        try:
            weightless = {"weights": None, "weights_backbone": None}
            given = weightless if "rcnn" in name or "segmentation" in name else {"weights": None}
            model: nn.Module = torchvision.models.get_model(name, **given, **settings)
        except Exception as error:
            raise _rejected(f"torchvision:{name}", settings, error) from error
        return model.eval()

    def inputs(self, name: str, settings: dict[str, Any], model: nn.Module) -> LoadedModel:
        """See `ModelSource.inputs`."""
        side = 299 if name.startswith("inception") else 224
        return LoadedModel(model, (example_tensor((_BATCH, 3, side, side)),))
