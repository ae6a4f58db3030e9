"""Models by name: own ones, factories in Python files, transformers, timm, torchvision."""

from __future__ import annotations

from etastar.sources.model_spec import load_model

__all__ = ["load_model"]
