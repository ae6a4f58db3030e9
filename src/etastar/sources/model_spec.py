"""MODEL of the command line: from its text to a model with example inputs."""

from __future__ import annotations

import warnings
from typing import Any

from etastar.errors import (
    CaptureError,
    EtastarWarning,
    ModelSpecError,
    cause_of,
    foreign_errors_as,
)
from etastar.graph.capture import capture_graph
from etastar.graph.dag import Graph
from etastar.sources.base import GivenInputs, LoadedModel
from etastar.sources.factory import load_from_factory
from etastar.sources.libraries import SOURCES

__all__ = ["capture_spec", "load_model"]

_FORMS = (
    "zoo:NAME, hf:CLASSNAME, timm:NAME, torchvision:NAME, package.module:factory or "
    "path/file.py:factory"
)


def load_model(
    spec: str,
    settings: dict[str, Any] | None = None,
    *,
    inputs: GivenInputs | None = None,
    device: str = "cpu",
) -> LoadedModel:
    """Build the model that a text names, with random weights and example inputs.

    Args:
        spec: `zoo:NAME`, `hf:CLASSNAME`, `timm:NAME`, `torchvision:NAME`,
            `package.module:factory` or `path/file.py:factory`.
        settings: Settings of the model.
        inputs: Positional and keyword inputs; None to work them out.
        device: "cpu", or "meta" for shapes alone; code that does not run there raises.

    Returns:
        The model with its inputs.

    Raises:
        ModelSpecError: The text, a setting or the inputs are not accepted, or code that the text
            names raised.
        MissingExtraError: A library is not installed.

    Example:
        >>> load_model("zoo:mlp", {"depth": 2, "width": 8}).args[0].shape[0]
        2
    """
    place, colon, name = spec.rpartition(":")
    if not (colon and place and name):
        raise ModelSpecError(f"MODEL {spec!r}", _FORMS, "write it in one of these forms")
    if place in SOURCES:
        return SOURCES[place].load(name, settings or {}, device=device, given=inputs)
    return load_from_factory(place, name, settings or {}, device=device, given=inputs)


def capture_spec(
    spec: str, settings: dict[str, Any] | None = None, *, inputs: GivenInputs | None = None
) -> Graph:
    """Capture the graph of the model that a text names.

    The model is built without memory first; where its code needs values, once more with them. A
    warning says so where that is the code that builds it, and `Graph.capture_note` where it is its
    forward pass.

    Args:
        spec: See `load_model`.
        settings: Settings of the model.
        inputs: Positional and keyword inputs; None to work them out.

    Returns:
        The graph.

    Raises:
        ModelSpecError: As `load_model`, or the forward pass exited.
        CaptureError: The model does not run on its inputs.

    Example:
        >>> capture_spec("zoo:mlp", {"depth": 2, "width": 8}).capture
        'fake'
    """
    loaded = _without_memory(spec, settings, inputs)
    try:
        return _captured(spec, loaded)
    except CaptureError:
        if not any(p.device.type == "meta" for p in loaded.model.parameters()):
            raise
    return _captured(spec, load_model(spec, settings, inputs=inputs, device="cpu"))


def _without_memory(
    spec: str, settings: dict[str, Any] | None, inputs: GivenInputs | None
) -> LoadedModel:
    """The model on the meta device; where its code does not run there, with its memory."""
    try:
        return load_model(spec, settings, inputs=inputs, device="meta")
    except ModelSpecError as error:
        if error.__cause__ is None:  # ours: the text, a setting or the inputs
            raise
        cause = cause_of(error.__cause__)
    line = EtastarWarning(
        f"{spec} cannot be built without memory for its weights, so it takes that memory: its code "
        f"does not run on PyTorch's meta device ({cause})"
    )
    is_clear = "meta" in cause.lower()  # else it may be an error that is about to come again
    if is_clear:
        warnings.warn(line, stacklevel=3)
    loaded = load_model(spec, settings, inputs=inputs, device="cpu")
    if not is_clear:
        warnings.warn(line, stacklevel=3)
    return loaded


def _captured(spec: str, loaded: LoadedModel) -> Graph:
    with foreign_errors_as(
        ModelSpecError,
        f"a forward pass of {spec}",
        "a model that runs on its example inputs",
        "check the model and its inputs, or run with --debug for the traceback",
    ):
        return capture_graph(loaded.model, *loaded.args, **loaded.kwargs)
