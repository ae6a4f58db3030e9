"""Data sets as plain tensors, with a deterministic iterator over batches."""

from __future__ import annotations

from etastar.datasets.dataset import Dataset, TaskKind
from etastar.datasets.registry import DATASETS, load

__all__ = ["DATASETS", "Dataset", "TaskKind", "load"]
