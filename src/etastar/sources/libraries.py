"""Models of libraries by name: the zoo's own, transformers, timm, torchvision; random weights.

And what every model source gives: a model and the inputs to run it on.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from etastar.errors import MissingExtraError, ModelSpecError, foreign_errors_as
from etastar.models import build, example_inputs

_SEQUENCE = 8  # tokens of an example: more would change nothing but time
_IMAGE = 224
_SAMPLES = 16000
_BATCH = 2

GivenInputs: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"
"""Positional and keyword inputs."""


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
        self, name: str, settings: dict[str, Any], *, device: str, given: GivenInputs | None
    ) -> tuple[nn.Module, GivenInputs]:
        """Build the model and put its inputs beside it: the caller's, or those that it works out.

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
                return model, self.inputs(name, settings, model)
            try:
                own = self.inputs(name, settings, model)
            except ModelSpecError:
                return model, given
        _require_dtypes(spec, given, own)
        return model, given


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


def example_tensor(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """An example input: zeros of an integer dtype, fixed pseudo-random numbers otherwise.

    The global random generator is not used.

    Example:
        >>> example_tensor((2, 3), torch.int64).sum().item()
        0
    """
    if not (dtype.is_floating_point or dtype.is_complex):
        return torch.zeros(*shape, dtype=dtype)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def _imported(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package, extra) from error
    except Exception as error:
        raise ModelSpecError(
            f"{package}, which is installed but does not import: {error}",
            f"releases of torch and {package} that belong together",
            "install both from the same place, for example both from the CPU builds",
        ) from error


def _timm_model(name: str, settings: dict[str, Any]) -> nn.Module:
    """Settings go to `timm.create_model`."""
    timm = _imported("timm", "timm")
    model: nn.Module = timm.create_model(name, pretrained=False, **settings)
    return model.eval()


def _timm_inputs(name: str, settings: dict[str, Any], model: nn.Module) -> GivenInputs:
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))
    channels = settings.get("in_chans", size[0])
    side = settings.get("img_size", size[1:])
    height, width = (side, side) if isinstance(side, int) else side
    return (example_tensor((_BATCH, channels, height, width)),), {}


def _torchvision_model(name: str, settings: dict[str, Any]) -> nn.Module:
    """Settings go to `torchvision.models.get_model`."""
    torchvision = _imported("torchvision", "timm")
    accepted = inspect.signature(torchvision.models.get_model_builder(name)).parameters
    weightless = {key: None for key in ("weights", "weights_backbone") if key in accepted}
    model: nn.Module = torchvision.models.get_model(name, **weightless, **settings)
    return model.eval()


def _torchvision_inputs(name: str, settings: dict[str, Any], model: nn.Module) -> GivenInputs:
    side = 299 if name.startswith("inception") else _IMAGE
    return (example_tensor((_BATCH, 3, side, side)),), {}


def _transformers_model(name: str, settings: dict[str, Any]) -> nn.Module:
    """Settings override fields of the config of the class."""
    cls = _model_class(name)
    _require_fields(name, cls.config_class, settings)
    model: nn.Module = cls(cls.config_class(**settings))
    return model.eval()


def _model_class(name: str) -> Any:
    transformers = _imported("transformers", "hf")
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


def _require_fields(name: str, config_class: Any, settings: dict[str, Any]) -> None:
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


def _transformers_inputs(name: str, settings: dict[str, Any], model: Any) -> GivenInputs:
    """Tokens, an image or audio, as the class names its main input."""
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
            "write a factory that returns (model, example_inputs); depth and transfer also take "
            "--input NAME=SHAPE[:DTYPE]",
        )
    if "pixel_values" in accepted and hasattr(config, "vision_config"):
        inputs["pixel_values"] = _image(config.vision_config)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in accepted:
        inputs["decoder_input_ids"] = _tokens(config)
    return (), inputs


def _tokens(config: Any) -> torch.Tensor:
    text = config.get_text_config()
    limit = _size(text, "max_position_embeddings", _SEQUENCE)
    vocabulary = _size(text, "vocab_size", 2)
    return (torch.arange(min(_SEQUENCE, limit)) % min(vocabulary, 97)).unsqueeze(0)


def _size(config: Any, field: str, default: int) -> int:
    value = getattr(config, field, None)
    if value is None:
        return default
    if not isinstance(value, int) or value < 1:
        name = config.attribute_map.get(field, field)
        raise ModelSpecError(f"{name}={value!r}", "an integer of 1 or more", f"change {name}")
    return value


def _image(config: Any) -> torch.Tensor:
    size = getattr(config, "image_size", None) or _IMAGE
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    return example_tensor((1, getattr(config, "num_channels", 3), height, width))


SOURCES: dict[str, ModelSource] = {
    source.prefix: source
    for source in (
        ModelSource(
            "zoo",
            lambda name, settings: build(name, **settings),
            lambda name, settings, _: (example_inputs(name, **settings), {}),
        ),
        ModelSource("hf", _transformers_model, _transformers_inputs),
        ModelSource("timm", _timm_model, _timm_inputs),
        ModelSource("torchvision", _torchvision_model, _torchvision_inputs),
    )
}
"""By what stands before the colon."""
