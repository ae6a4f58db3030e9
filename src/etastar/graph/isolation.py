"""Trace without a trace: a copy of the model, and every global switch put back afterwards.

Switches, patches and random generators belong to the process: one lock is held by whoever changes
them, so that two threads put back what was there before either. What a pass of one thread needs
changed is changed for that thread alone where that can be told. Where tensors are not what they
seem, within a tracer of PyTorch, nothing is begun.
"""

from __future__ import annotations

import copy
import gc
import os
import random
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from etastar.errors import CaptureError, EtastarError, nothing_said

_LOCK = threading.RLock()
_CONTAINERS = (dict, OrderedDict, list, set)


def _renew_lock() -> None:
    """In a forked process: the thread that held the lock may not be there to let it go."""
    global _LOCK
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def require_plain_execution(*, error: type[EtastarError] = CaptureError) -> None:
    """Refuse to begin where tensors are not what they seem: within a tracer of PyTorch.

    Raises:
        EtastarError: Of the class `error`, within a transform of `torch.func`, a fake mode, or
            `torch.jit.trace`.
    """
    place = None
    if torch._C._functorch.peek_interpreter_stack() is not None:  # noqa: SLF001
        place = "a transform of torch.func (grad, jvp, vmap, ...)"
    if torch._C._get_tracing_state() is not None:  # noqa: SLF001
        place = "torch.jit.trace"
    for mode in _get_current_dispatch_mode_stack():
        if getattr(mode, "_mode_key", None) is not None:  # the modes of PyTorch's own tracers
            place = f"a {type(mode).__name__}"
    if place is not None:
        raise error(
            f"a call within {place}",
            "a call where tensors are the model's own",
            "call it before, outside of it; a graph that was captured there can be passed in",
        )


def own_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters, buffers and tensors kept as plain attributes."""
    yield from (*model.parameters(), *model.buffers())
    for module in model.modules():
        for value in module.__dict__.values():
            if isinstance(value, torch.Tensor):
                yield value


def empty_containers(model: nn.Module) -> dict[int, Any]:
    """A memo for `copy.deepcopy`: new containers for the many empty ones, which take it long."""
    return {
        id(value): type(value)()
        for module in model.modules()
        for value in module.__dict__.values()
        if type(value) in _CONTAINERS and not value
    }


@contextmanager
def isolated_copy(
    model: nn.Module, *, twin: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Iterator[nn.Module]:
    """A model that may be run and scribbled on, in place of `model`.

    It shares parameters with `model` and copies all else; on fake tensors, which `twin` makes, it
    shares buffers too. Functions that a copy shares (hooks, replaced forwards) may still reach
    `model` itself, and a model that cannot be copied is given out as it is: so its attributes are
    put back afterwards in any case.
    """
    copied = set(map(id, model.buffers() if twin is None else ()))
    shared = {id(t): t for t in own_tensors(model) if id(t) not in copied and not is_lazy(t)}
    if twin is not None:  # constants made in forward match them, and they can be written to
        shared = {k: twin(t) if t.is_meta or t.is_inference() else t for k, t in shared.items()}
    with attributes_kept(model):
        try:
            private = copy.deepcopy(model, memo={**empty_containers(model), **shared})
        except Exception:
            private = model
        yield private


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Put every attribute of every module back, and what its containers held."""
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
                if type(container) is list:
                    container[:] = content
                elif container or content:
                    container.clear()
                    container.update(content)


def _default_device() -> torch.device | None:
    """What `torch.set_default_device` was last given, whatever contexts lie around."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)  # noqa: SLF001
    return None if context is None else context.device


AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "mtia")
"""Devices whose autocast is looked after."""


def _autocast() -> tuple[tuple[bool, torch.dtype], ...]:
    return tuple(
        (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        for device in AUTOCAST_DEVICES
    )


def _set_autocast(states: tuple[tuple[bool, torch.dtype], ...]) -> None:
    for device, (is_enabled, dtype) in zip(AUTOCAST_DEVICES, states, strict=True):
        torch.set_autocast_enabled(device, is_enabled)
        torch.set_autocast_dtype(device, dtype)


def _folder() -> str | None:
    """The working directory; None where it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _enter_folder(path: str | None) -> None:
    if path is not None:
        with suppress(OSError):
            os.chdir(path)


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update({k: v for k, v in variables.items() if os.environ.get(k) != v})


# What a forward pass may set by hand, and leave set when it raises: how to read it, and to set it.
_SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (_default_device, torch.set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (_autocast, _set_autocast),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_num_threads, torch.set_num_threads),
    (lambda: dict(os.environ), _set_environment),
    (_folder, _enter_folder),
)


@contextmanager
def random_numbers_kept(accelerator: str | None = None) -> Iterator[None]:
    """Put back the random generators of PyTorch (of accelerators in use too), NumPy and Python.

    Args:
        accelerator: Device type that will be used; None for CUDA, if it is in use already.

    Example:
        >>> before = torch.random.get_rng_state()
        >>> with random_numbers_kept():
        ...     _ = torch.manual_seed(7), torch.rand(1)
        >>> torch.equal(torch.random.get_rng_state(), before)
        True
    """
    with _LOCK:
        python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
        if accelerator is None and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            accelerator = "cuda"
        count = torch.get_device_module(accelerator).device_count() if accelerator else 0
        with torch.random.fork_rng(devices=range(count), device_type=accelerator or "cuda"):
            try:
                yield
            finally:
                random.setstate(python)
                np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def global_state_kept() -> Iterator[None]:
    """Put back random generators, PyTorch's switches, the environment and the working directory.

    Other threads that ask for the same wait; a thread that is within may ask again.

    Example:
        >>> with global_state_kept():
        ...     _ = torch.manual_seed(7), torch.set_default_dtype(torch.float64)
        >>> torch.get_default_dtype()
        torch.float32
    """
    with random_numbers_kept():
        before = [read() for read, _ in _SWITCHES]
        try:
            yield
        finally:
            for (read, put_back), value in zip(_SWITCHES, before, strict=True):
                if read() != value:
                    put_back(value)


@contextmanager
def ambient_modes_left(*, but_autocast: bool = False) -> Iterator[None]:
    """Leave what lies around the caller and would change the operations that a model executes.

    Those are autocast (unless asked to stay within it), inference mode, and a default device
    without values. They are there again afterwards.
    """
    before = _autocast()
    has_values = torch.get_default_device().type != "meta"
    with torch.inference_mode(False), nullcontext() if has_values else torch.device("cpu"):
        try:
            _set_autocast(tuple((is_on and but_autocast, dtype) for is_on, dtype in before))
            yield
        finally:
            _set_autocast(before)


def _allow_batch_of_one(stack: ExitStack) -> None:
    """BatchNorm in train mode refuses one example with 1x1 maps; shapes do not care."""
    functional: Any = torch.nn.functional
    before, thread = functional._verify_batch_size, threading.get_ident()  # noqa: SLF001

    def verify(size: Any) -> None:
        if threading.get_ident() != thread:
            before(size)

    stack.callback(setattr, functional, "_verify_batch_size", before)
    functional._verify_batch_size = verify  # noqa: SLF001


@contextmanager
def quiet_switches() -> Iterator[None]:
    """Run eagerly, silently and without fused shortcuts; every switch is put back afterwards."""
    mha: Any = torch.backends.mha
    with _LOCK, ExitStack() as stack:
        # the fused path of nn.MultiheadAttention is one opaque operation per layer
        stack.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
        mha.set_fastpath_enabled(False)
        # cached casts would hide the parameter they were made from, or leave fakes behind
        stack.callback(torch.clear_autocast_cache)
        torch.clear_autocast_cache()
        _allow_batch_of_one(stack)
        stack.enter_context(nothing_said())
        if gc.isenabled():  # a pass makes many objects that all stay: looking through them is vain
            stack.callback(gc.enable)
            gc.disable()
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and the import is slow
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
