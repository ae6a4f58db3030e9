"""The named experiments."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from etastar.experiments import mlp_trained, resnet, transformer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etastar.experiments.declaration import Scale, Study

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: Final[Mapping[str, Callable[[Scale], Study]]] = MappingProxyType(
    {
        "mlp-trained": mlp_trained.study,
        "resnet": resnet.study,
        "transformer": transformer.study,
    }
)
"""What `etastar reproduce` takes: the declaration of each experiment at a scale, by name."""
