"""Models of transformers, built from their configs with random weights."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import torch
from torch import nn

from etastar.errors import MissingExtraError, ModelSpecError
from etastar.sources.loaded import LoadedModel, ModelSource
from etastar.sources.settings import example_tensor

__all__ = ["TransformersSource"]

_SEQUENCE = 8  # tokens of an example: more would change nothing but time
_IMAGE = 224
_SAMPLES = 16000


class TransformersSource(ModelSource):
    """`hf:CLASSNAME`: a class of transformers; settings override fields of its config."""

    prefix = "hf"

    def build(self, name: str, settings: dict[str, Any]) -> nn.Module:
        """See `ModelSource.build`."""
        cls = _model_class(name)
        config = _config(name, cls.config_class, settings)
        model: nn.Module = cls(config)
        return model.eval()

    def inputs(self, name: str, settings: dict[str, Any], model: nn.Module) -> LoadedModel:
        """See `ModelSource.inputs`."""
        return LoadedModel(model, (), _example_inputs(name, model))


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "hf") from error
    return transformers


def _model_class(name: str) -> Any:
    transformers = _transformers()
    cls = getattr(transformers, name, None) if name.isidentifier() else None
    if cls is None or getattr(cls, "config_class", None) is None:
        names = [n for n in dir(transformers) if n.endswith(("Model", "LM", "Classification"))]
        close = ", ".join(difflib.get_close_matches(name, names, 3)) or "GPT2LMHeadModel"
        raise ModelSpecError(
            f"hf:{name}",
            "a model class of transformers with a config of its own",
            f"write the class, for example hf:{close}",
        )
    return cls


def _config(name: str, config_class: Any, settings: dict[str, Any]) -> Any:
    default = config_class()
    unknown = [key for key in settings if not hasattr(default, key)]
    if unknown:
        fields = sorted(default.to_dict())
        close = [m for key in unknown for m in difflib.get_close_matches(key, fields, 3)]
        raise ModelSpecError(
            f"hf:{name} with {', '.join(unknown)}",
            f"fields of {config_class.__name__}",
            f"rename or leave out; close ones are: {', '.join(close) or ', '.join(fields)}",
        )
    try:
        return config_class(**settings)
    except Exception as error:
        raise ModelSpecError(
            f"hf:{name} with {settings}: {type(error).__name__}: {error}",
            f"settings that {config_class.__name__} accepts",
            "change the setting that it names",
        ) from error


def _example_inputs(name: str, model: Any) -> dict[str, torch.Tensor]:
    config = model.config
    accepted = inspect.signature(model.forward).parameters
    main = model.main_input_name
    inputs: dict[str, torch.Tensor] = {}
    if main == "input_ids":
        inputs["input_ids"] = _tokens(config)
    elif main == "pixel_values":
        inputs["pixel_values"] = _image(config)
    elif main == "input_values":
        inputs["input_values"] = example_tensor((1, _SAMPLES))
    elif main == "input_features" and hasattr(config, "num_mel_bins"):
        length = 2 * getattr(config, "max_source_positions", _SEQUENCE)
        inputs["input_features"] = example_tensor((1, config.num_mel_bins, length))
    else:
        raise ModelSpecError(
            f"hf:{name}, whose main input is {main!r}",
            "an input of tokens, images or audio",
            "give the inputs with --input NAME=SHAPE[:DTYPE]",
        )
    if "pixel_values" in accepted and hasattr(config, "vision_config"):
        inputs["pixel_values"] = _image(config.vision_config)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in accepted:
        inputs["decoder_input_ids"] = _tokens(config)
    return inputs


def _tokens(config: Any) -> torch.Tensor:
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or _SEQUENCE
    vocabulary = getattr(text, "vocab_size", 2) or 2
    return (torch.arange(min(_SEQUENCE, limit)) % min(vocabulary, 97)).unsqueeze(0)


def _image(config: Any) -> torch.Tensor:
    size = getattr(config, "image_size", None) or _IMAGE
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    return example_tensor((1, getattr(config, "num_channels", 3), height, width))
