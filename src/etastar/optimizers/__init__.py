"""Kinds of optimizers: one registry, read by laws, plans, measurements, sweeps and commands."""

from etastar.optimizers.kind import OptimizerKind, ShapeRule, Update
from etastar.optimizers.reading import (
    OptimizerLike,
    optimizer_class,
    optimizer_kind,
    optimizer_like,
)
from etastar.optimizers.registry import OPTIMIZERS

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
