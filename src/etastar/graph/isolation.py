"""Trace without a trace: a copy of the model, and every global switch put back afterwards."""

from __future__ import annotations

import copy
import gc
import logging
import random
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from etastar.graph.fake_twins import FakeTwins

__all__ = [
    "attributes_kept",
    "empty_containers",
    "global_state_kept",
    "isolated_copy",
    "lazy_copy",
    "own_tensors",
    "quiet_switches",
]


def own_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters, buffers and tensors kept as plain attributes.

    Args:
        model: Any module.

    Yields:
        The tensors.
    """
    yield from (*model.parameters(), *model.buffers())
    for module in model.modules():
        for value in module.__dict__.values():
            if isinstance(value, torch.Tensor):
                yield value


def _shared_tensors(model: nn.Module, *, share_buffers: bool) -> dict[int, torch.Tensor]:
    """What a copy shares with the model: no data is copied, none can be written to."""
    buffers = set(map(id, model.buffers()))
    return {
        id(t): t
        for t in own_tensors(model)
        if (share_buffers or id(t) not in buffers) and not is_lazy(t)
    }


def _without_meta(
    tensors: dict[int, torch.Tensor], twins: FakeTwins | None
) -> dict[int, torch.Tensor]:
    """Fake twins in place of meta tensors, so that constants made in forward match them."""
    if twins is None:
        return tensors
    return {key: twins.of(t) if t.is_meta else t for key, t in tensors.items()}


def empty_containers(model: nn.Module) -> dict[int, Any]:
    """New containers for the many empty ones of modules, which copying as such would take long.

    Args:
        model: To be copied.

    Returns:
        A memo for `copy.deepcopy`.
    """
    return {
        id(value): type(value)()
        for module in model.modules()
        for value in module.__dict__.values()
        if type(value) in (dict, OrderedDict, list, set) and not value
    }


def lazy_copy(model: nn.Module) -> nn.Module:
    """A copy of a model some of whose parameters have no shape yet.

    Args:
        model: The model, which stays lazy.

    Returns:
        The copy, lazy too; it shares nothing with the model.
    """
    unshaped: dict[int, Any] = {  # PyTorch can copy such parameters, but not such buffers
        id(b): UninitializedBuffer(device=b.device, dtype=b.dtype)  # type: ignore[call-arg]
        for b in model.buffers()
        if isinstance(b, UninitializedBuffer)
    }
    return copy.deepcopy(model, memo=unshaped)


@contextmanager
def isolated_copy(model: nn.Module, *, twins: FakeTwins | None = None) -> Iterator[nn.Module]:
    """A model that may be run and scribbled on, in place of `model`.

    It shares parameters (and, on fake tensors, buffers) with `model` and copies all else. Functions
    that a copy shares (hooks, replaced forwards) may still reach `model` itself, and a model that
    cannot be copied is given out as it is: so its attributes are put back afterwards in any case.

    Args:
        model: The model to protect.
        twins: Fake twins, if it will run on fake tensors; None for a run on real ones.

    Yields:
        The stand-in.
    """
    shared = _shared_tensors(model, share_buffers=twins is not None)
    memo = {**empty_containers(model), **_without_meta(shared, twins)}
    with attributes_kept(model):
        try:
            stand_in = copy.deepcopy(model, memo=memo)
        except Exception:
            stand_in = model
        yield stand_in


_CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Put every attribute of every module back, and what its containers held.

    Args:
        model: Any module.

    Yields:
        Nothing.
    """
    before = []
    for module in model.modules():
        attributes = dict(module.__dict__)
        held = [v for v in attributes.values() if type(v) in _CONTAINERS]
        before.append((module, attributes, [(value, value.copy()) for value in held]))
    try:
        yield
    finally:
        for module, attributes, contents in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for container, content in contents:
                _refill(container, content)


def _refill(container: Any, content: Any) -> None:
    """Give a container its former content."""
    if type(container) is list:
        container[:] = content
    elif container or content:
        container.clear()
        container.update(content)


class _Switches(NamedTuple):
    """Global switches that a forward pass may set by hand, and leave set when it raises."""

    default_dtype: torch.dtype
    grad_enabled: bool
    deterministic: bool
    warn_only: bool
    autocast: bool

    @classmethod
    def now(cls) -> _Switches:
        return cls(
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.is_autocast_enabled("cpu"),
        )

    def restore(self) -> None:
        torch.set_default_dtype(self.default_dtype)
        torch.set_grad_enabled(self.grad_enabled)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.set_autocast_enabled("cpu", self.autocast)


@contextmanager
def global_state_kept() -> Iterator[None]:
    """Put back the random generators of PyTorch, NumPy and Python, and PyTorch's switches.

    Yields:
        Nothing.

    Example:
        >>> with global_state_kept():
        ...     _ = torch.manual_seed(7), torch.set_default_dtype(torch.float64)
        >>> torch.get_default_dtype()
        torch.float32
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    switches = _Switches.now()
    cuda: Any = torch.cuda
    devices = list(range(cuda.device_count())) if cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            switches.restore()
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _mha_without_fastpath() -> Iterator[None]:
    """The fused path of nn.MultiheadAttention is one opaque operation per layer."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _autocast_cache_cleared() -> Iterator[None]:
    """Cached casts would hide the parameter they were made from, or leave fakes behind."""
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()


@contextmanager
def _batch_of_one_allowed() -> Iterator[None]:
    """BatchNorm in train mode refuses one example with 1x1 maps; shapes do not care."""
    functional: Any = torch.nn.functional
    before = functional._verify_batch_size  # noqa: SLF001
    functional._verify_batch_size = lambda size: None  # noqa: SLF001
    try:
        yield
    finally:
        functional._verify_batch_size = before  # noqa: SLF001


@contextmanager
def _nothing_said() -> Iterator[None]:
    """No warnings of a pass that is not a real one, no tracebacks of what fake tensors refuse."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A pass makes many objects that all stay: looking through them again and again is vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def quiet_switches() -> Iterator[None]:
    """Run eagerly, silently and without fused shortcuts; every switch is put back afterwards.

    Yields:
        Nothing.
    """
    with ExitStack() as stack:
        stack.enter_context(_mha_without_fastpath())
        stack.enter_context(_autocast_cache_cleared())
        stack.enter_context(_batch_of_one_allowed())
        stack.enter_context(_nothing_said())
        stack.enter_context(_collector_paused())
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and the import is slow
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
