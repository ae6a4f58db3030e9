"""The zoo: small networks in plain PyTorch, each with `depth` and `width` as clean knobs."""

from __future__ import annotations

from etastar.models.registry import ZOO, ZooEntry, build, example_inputs

__all__ = ["ZOO", "ZooEntry", "build", "example_inputs"]
