"""The named experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from studies.experiments import (
    cnn,
    deep_linear,
    graphs,
    horizon,
    joint,
    learnt_scales,
    mlp_criterion,
    mlp_trained,
    resnet,
    transformer,
    width,
)

if TYPE_CHECKING:
    from studies.declaration import Scale, Study

EXPERIMENTS: Final[Mapping[str, Callable[[Scale], Study]]] = MappingProxyType(
    {
        "mlp-criterion": mlp_criterion.study,
        "mlp-trained": mlp_trained.study,
        "cnn1d": cnn.study_1d,
        "cnn2d": cnn.study_2d,
        "resnet": resnet.study,
        "transformer": transformer.study,
        "width": width.study,
        "joint": joint.study,
        "graphs": graphs.study,
        "deep-linear": deep_linear.study,
        "horizon": horizon.study,
        "gradinit": learnt_scales.study,
    }
)
"""What `python -m studies` takes: the declaration of each experiment at a scale, by name."""
