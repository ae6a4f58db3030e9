"""What was done to the initial weights of a model in this process, remembered beside the model.

Nothing is attached to a model or to its parameters. A module is remembered weakly, whatever wraps
it (DDP, `torch.compile`, `fully_shard`) and whatever its weights become; and the weights themselves
by a digest, so that a copy, or a model that was given the same weights, is recognized until they
are trained. What another process did is not known here: weights from a checkpoint are the caller's
to name.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import nn

from etastar.errors import EtastarError
from etastar.naming import canonical_parameters, unwrap

_SAMPLES = 8  # elements of each parameter that are looked at
_MOST = 1024  # digests kept, the latest
_LEAST_BYTES = 2  # of an element that can hold a draw: formats of 8 bits come with scales


@dataclass(frozen=True)
class Applied:
    """What was applied to the weights of a model.

    Attributes:
        residual: Branch weights to which `initialize_` gave 1 / K; None if it drew none of them.
        readout: Rule of `initialize_` for the output weights; None likewise.
        rescaled: Name of the factors that the initialization was multiplied by; None for none.
    """

    residual: str | None = None
    readout: str | None = None
    rescaled: str | None = None


_lock: Final = threading.Lock()
_by_module: Final[WeakKeyDictionary[nn.Module, tuple[Applied, str | None]]] = WeakKeyDictionary()
_by_weights: Final[OrderedDict[str, Applied]] = OrderedDict()


def remember(model: nn.Module, applied: Applied, *, before: str | None = None) -> None:
    """Remember what was applied to a model's weights, in place of what was before.

    Args:
        model: The model, wrapped or not.
        applied: What was applied.
        before: Digest of the weights before; equal weights are not remembered by themselves.

    Example:
        >>> model = torch.nn.Linear(4, 4)
        >>> remember(model, Applied(residual="all"))
        >>> recall(torch.nn.DataParallel(model)).residual
        'all'
    """
    digest = digest_of(model)
    with _lock:
        _by_module[unwrap(model)] = applied, digest
        if digest is None or digest == before:
            return
        _by_weights[digest] = applied
        _by_weights.move_to_end(digest)
        while len(_by_weights) > _MOST:
            _by_weights.popitem(last=False)


def recall(model: nn.Module) -> Applied | None:
    """What is remembered of these very weights, else of this module; None if nothing is known."""
    digest = digest_of(model)
    with _lock:
        by_module, then = _by_module.get(unwrap(model), (None, None))
        if digest is None or digest == then:
            return by_module
        return _by_weights.get(digest, by_module)


def require_writable(parameters: Mapping[str, torch.Tensor], *, error: type[EtastarError]) -> None:
    """Refuse parameters that cannot be multiplied or drawn in place, before the first is changed.

    Raises:
        EtastarError: Of the class `error`: one is on the meta device, made in inference mode, not
            of a real floating dtype of 16 bits or more, or has elements that share memory.

    Example:
        >>> require_writable({"weight": torch.ones(2)}, error=EtastarError)
    """
    for name, parameter in parameters.items():
        dtype, layout = parameter.dtype, parameter.layout
        for applies, what, expected, action in (
            (
                parameter.is_meta,
                "on the meta device",
                "parameters that hold memory",
                "call model.to_empty(device=...) first, then initialize the model",
            ),
            (
                parameter.is_inference(),
                "made in inference mode",
                "parameters that can be written to",
                "build the model outside of torch.inference_mode()",
            ),
            (
                not dtype.is_floating_point or dtype.itemsize < _LEAST_BYTES,
                f"of {dtype}",
                "real numbers of 16 bits or more, which have a variance",
                "apply it before the model is quantized; what is complex, initialize yourself, and "
                "freeze it meanwhile (requires_grad_(False))",
            ),
            (
                layout is not torch.strided or _has_overlap(parameter),
                f"of layout {layout} whose elements do not each have memory of their own",
                "dense parameters",
                "make it one: torch.nn.Parameter(parameter.to_dense().contiguous())",
            ),
        ):
            if applies:
                raise error(f"parameter {name!r} {what}", expected, action)


def _has_overlap(tensor: torch.Tensor) -> bool:
    return any(s == 0 and n > 1 for s, n in zip(tensor.stride(), tensor.shape, strict=True))


def digest_of(model: nn.Module) -> str | None:
    """A digest of a few elements of every parameter: equal for models of equal weights and names.

    None where they tell nothing: on the meta device, in shards, or zeros and ones alone.
    """
    found = hashlib.sha256()
    telling = False
    for name, parameter in canonical_parameters(model).items():
        if parameter.is_meta or hasattr(parameter, "device_mesh") or parameter.numel() == 0:
            return None
        flat = parameter.detach().reshape(-1)
        picked = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
        values = picked.to("cpu", torch.float64 if picked.dtype.is_floating_point else None)
        telling = telling or bool(((values != 0) & (values != 1)).any())
        found.update(f"{name}{tuple(parameter.shape)}{values.tolist()}".encode())
    return found.hexdigest() if telling else None
