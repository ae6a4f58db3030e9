"""Kinds of optimizers: one registry, read by laws, plans, measurements, sweeps and commands."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from etastar.optimizers.registry import OPTIMIZERS, OptimizerKind, ShapeRule, Update

if TYPE_CHECKING:
    from etastar.optimizers.reading import (
        OptimizerLike,
        optimizer_class,
        optimizer_kind,
        optimizer_like,
    )

__all__ = [
    "OPTIMIZERS",
    "OptimizerKind",
    "OptimizerLike",
    "ShapeRule",
    "Update",
    "optimizer_class",
    "optimizer_kind",
    "optimizer_like",
]


def __getattr__(name: str) -> Any:
    """What needs PyTorch, when it is asked for: the command line reads the registry alone."""
    if name not in __all__:
        raise AttributeError(f"module 'etastar.optimizers' has no attribute {name!r}")
    return getattr(import_module("etastar.optimizers.reading"), name)
