"""What a capture must leave as it was, and networks whose paths are known on paper."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.modules.module as module_hooks
from numpy.polynomial import Polynomial
from sympy import Expr, Poly, symbols
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from etastar.depth import DepthReport


def _read() -> dict[str, Any]:
    hooks = [name for name in vars(module_hooks) if name.startswith("_global_")]
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return {
        "hooks": {name: list(getattr(module_hooks, name) or ()) for name in hooks},
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "mha": torch.backends.mha.get_fastpath_enabled(),
        "autocast": [
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ],
        "deterministic": [
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
        ],
        "stance": dynamo and repr(dynamo._stance),
        "modes": list(_get_current_dispatch_mode_stack()),
        "warnings": list(warnings.filters),
        "logger": logging.getLogger("torch._subclasses.fake_tensor").disabled,
        "batch_check": torch.nn.functional._verify_batch_size,
        "collector": gc.isenabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "sdpa": torch.backends.cuda.flash_sdp_enabled(),
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }


@pytest.fixture
def global_state() -> Callable[[], dict[str, Any]]:
    """Reads random generators, hooks, switches and patches of the process."""
    return _read


class Calls(nn.Module):
    """Calls a function on itself and its inputs, after giving itself some members."""

    def __init__(self, function: Callable[..., Any], /, **members: Any) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


@pytest.fixture
def network() -> type[Calls]:
    """A module made of a function and its members."""
    return Calls


@pytest.fixture
def linears() -> Callable[..., nn.ModuleList]:
    """Several linear layers of one width."""
    return lambda count, width=8: nn.ModuleList(nn.Linear(width, width) for _ in range(count))


@pytest.fixture
def has_paths() -> Callable[[DepthReport, Polynomial], bool]:
    """Whether the paths of a report are those of a generating polynomial, exponent the length."""

    def check(report: DepthReport, paths: Polynomial) -> bool:
        counts = {n: int(c) for n, c in enumerate(paths.coef) if c}
        moments = tuple(sum(c * n**k for n, c in counts.items()) for k in range(4))
        ends = (report.effective_depth, report.longest_path) == (min(counts), max(counts))
        return ends and report.path_length_moments == moments

    return check


def _figures(paths: Expr) -> tuple[int, int, tuple[int, ...]]:
    """Shortest and longest path, moments of the lengths, on exact integers."""
    lengths = Poly(paths, symbols("x")).terms()
    counts = {length: int(count) for (length,), count in lengths}
    moments = tuple(sum(c * n**k for n, c in counts.items()) for k in range(4))
    return min(counts), max(counts), moments


@pytest.fixture
def reads_as() -> Callable[..., dict[str, Any]]:
    """What a report has to say where its paths are those of a polynomial in w and a.

    w is a weight layer, a is an addition. `layers` is for networks where two paths differ in their
    additions alone, which layers alone do not tell apart.
    """

    def read(paths: Expr, *, additions: int, layers: Expr | None = None) -> dict[str, Any]:
        w, a, x = symbols("w a x")
        shortest, longest, moments = _figures(paths.subs({w: x, a: x}))
        alone = _figures((paths.subs(a, 1) if layers is None else layers).subs(w, x))
        return {
            "effective_depth": shortest,
            "longest_path": longest,
            "path_count": moments[0],
            "path_length_moments": moments,
            "layer_longest_path": alone[1],
            "layer_path_length_moments": alone[2],
            "residual_additions": additions,
        }

    return read
