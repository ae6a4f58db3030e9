"""Capture leaves no trace: everything is compared before and after, on success and on failure."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from etastar.errors import CaptureError
from etastar.graph.capture import capture_graph

X = torch.ones(2, 4)


def _tensor(tensor: Tensor) -> tuple[Any, ...]:
    values = None if tensor.is_meta else tensor.detach().clone().numpy().tobytes()
    where = None if tensor.is_meta else tensor.data_ptr()
    flags = (tensor.requires_grad, tensor.shape, tensor.stride(), tensor.dtype)
    gradient = tensor.grad if tensor.is_leaf else None
    hung = (_content(tensor.__dict__), _content(tensor._backward_hooks or {})[1])
    hung += (_content(tensor._post_accumulate_grad_hooks or {})[1],)
    return (
        None if gradient is None else _tensor(gradient),
        *hung,
        id(tensor),
        type(tensor),
        tensor._version,
        where,
        values,
        tensor.device,
        *flags,
    )


def _content(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, dict):
        return id(value), [(key, _content(child)) for key, child in value.items()]
    if isinstance(value, (list, tuple)):
        return id(value), [_content(child) for child in value]
    if isinstance(value, set):
        return id(value), sorted(map(repr, value))
    return id(value)


def model_state(model: nn.Module) -> list[Any]:
    """Every attribute of every module, hooks and training flags among them, by value."""
    return [
        (name, id(module), module.training, _content(module.__dict__))
        for name, module in model.named_modules()
    ]


class Untidy(nn.Module):
    """Scribbles on itself and on every global switch it can reach, then perhaps raises."""

    def __init__(self, fails: str, *, copyable: bool = True) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.register_buffer("count", torch.zeros(1))
        self.kept: list[Any] = []
        self.table = torch.ones(4)
        self.fails = fails
        for parameter in self.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.b.bias.register_hook(lambda gradient: gradient)
        self.b.bias.kept = "as it is"
        if not copyable:
            self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_grad_enabled(False)
        torch.set_autocast_enabled("cpu", True)
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("medium")
        torch.autograd.set_detect_anomaly(True)
        os.chdir("/")
        os.environ["ETASTAR_TEST"] = "left"
        os.environ.pop("OMP_NUM_THREADS", None)
        warnings.simplefilter("ignore", UserWarning)
        self.count += 1
        self.table.mul_(2)
        self.a.weight.mul_(0.5)
        self.a.bias.data = self.a.bias.data + 1
        self.a.weight.scale = 2.0
        self.a.weight.register_hook(lambda gradient: gradient * 2)
        self.b.weight.register_post_accumulate_grad_hook(lambda parameter: None)
        self.b.weight.requires_grad_(False)
        self.b.bias.grad = None
        self.norm.weight.grad.zero_()
        self.b.eval()
        self.b.register_forward_hook(lambda *_: None)
        self.new = x
        self.kept.append(x)
        self.drop.p = 0.1
        y = self.b(self.drop(self.norm(self.a(x.to(torch.float32)))))
        if self.fails != "never":
            float(y.sum())  # fake tensors refuse
        if self.fails == "always":
            raise OSError("on purpose")
        return y


def spectral() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 2))


def meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def patched(device: str = "cpu") -> nn.Module:
    """Its forward and hook are functions that reach the model itself, not a copy."""
    with torch.device(device):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    inner = model.forward

    def forward(x: Tensor) -> Tensor:
        model.last = inner(x)
        return model.last

    model.forward = forward
    model[0].register_forward_hook(lambda module, args, out: setattr(model, "seen", out))
    return model


class Reads(nn.Module):
    """Looks at a value, so that real tensors are needed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        y = self.model(x)
        return y if float(y.sum()) > -1e30 else -y


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "tidy": (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "fake"),
    "untidy": (lambda: Untidy("never"), "fake"),
    "untidy_real": (lambda: Untidy("on_fake"), "real"),
    "untidy_error": (lambda: Untidy("always"), "error"),
    "uncopyable": (lambda: Untidy("never", copyable=False), "fake"),
    "uncopyable_real": (lambda: Untidy("on_fake", copyable=False), "real"),
    "uncopyable_error": (lambda: Untidy("always", copyable=False), "error"),
    "spectral": (spectral, "fake"),
    "spectral_real": (lambda: Reads(spectral()), "real"),
    "patched": (patched, "fake"),
    "patched_real": (lambda: Reads(patched()), "real"),
    "batch_norm_real": (lambda: Reads(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))), "real"),
    "meta": (meta, "fake"),
    "meta_patched": (lambda: patched("meta"), "fake"),
    "meta_error": (lambda: Reads(meta()), "error"),
    "wrong_shape": (lambda: nn.Linear(5, 2), "error"),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 8).eval(), "fake"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()), "fake"),
}


def _state(model: nn.Module) -> list[Any]:
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        return [(n, id(m), m.training, sorted(m.__dict__)) for n, m in model.named_modules()]
    return model_state(model)


@pytest.fixture(autouse=True)
def _imported() -> None:
    """What the first capture of a process imports adds a warning filter of its own."""
    capture_graph(nn.Linear(4, 4), X)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_capture_leaves_no_trace(
    name: str, training: bool, global_state: Callable[[], dict[str, Any]]
) -> None:
    make, outcome = MODELS[name]
    model = make().train(training)
    inputs = X.clone()
    model_before, global_before = _state(model), global_state()
    input_before = _tensor(inputs)
    if outcome == "error":
        with pytest.raises(CaptureError):
            capture_graph(model, inputs)
    else:
        assert capture_graph(model, inputs).capture == outcome
    assert _state(model) == model_before
    after = global_state()
    for switch, value in global_before.items():
        assert after[switch] == value, switch
    assert _tensor(inputs) == input_before


def test_switches_that_were_set_stay_set(global_state: Callable[[], dict[str, Any]]) -> None:
    torch.backends.mha.set_fastpath_enabled(False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            model, before = Untidy("on_fake"), global_state()
            capture_graph(model, X)
            assert global_state() == before
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
        torch.use_deterministic_algorithms(False)


def test_inputs_that_the_model_writes_to_are_not_the_callers() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x.add_(1)
            return self.layer(x) * float(x.sum())

    inputs = torch.ones(2, 4)
    assert capture_graph(Writes(), inputs).capture == "real"
    assert torch.equal(inputs, torch.ones(2, 4))


def test_gradients_and_optimizer_state_are_untouched() -> None:
    model = Untidy("on_fake")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture_graph(model, X)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert optimizer.param_groups[0]["params"][0] is next(model.parameters())


def test_refused_operations_log_nothing() -> None:
    class Refused(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.aten._cdist_forward(super().forward(x), x, -1.0, None)

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    logger.addHandler(handler)
    try:
        for model in (Reads(nn.Linear(4, 4)), nn.Linear(5, 2), Refused(4, 4)):
            with contextlib.suppress(CaptureError):
                capture_graph(model, X)
        assert records == []
    finally:
        logger.removeHandler(handler)


def test_model_trains_on_as_if_nothing_had_happened() -> None:
    losses = []
    for captured in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(3):
            if captured:
                capture_graph(model, X)
                capture_graph(Reads(model), X)
            loss = model(X).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == losses[1]
