"""GradInit (arXiv 2102.08098): learnt scales beside initializations by formula."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch

from etastar.graph import Graph
from etastar.init.schemes import ResidualRule
from studies.declaration import Budget, Data, Study, ladder, options
from studies.gradinit import gradinit_
from studies.initialization import StableInit
from studies.protocol import ADAM, SGD, Protocol
from studies.records import Claim
from studies.training import cross_entropy, load_data

if TYPE_CHECKING:
    from torch import Tensor, nn

    from studies.declaration import Family, Scale

_OTHER_BATCHES = 10_000
"""Added to a run's seed, so that the scales are not learnt on the batches of the training."""

_HE: Final = StableInit(residual="none")


@dataclass(frozen=True)
class LearntScales:
    """GradInit on top of another initialization, on the family's own data and optimizer.

    Attributes:
        start: What the parameters are before they are scaled.
        lr: Rate of the optimizer step whose outcome the scales improve: one for all depths and
            runs, since the rate of the training is what is looked for.
        num_steps: Steps of the search for scales.
        scale_lr: Their learning rate.
    """

    start: StableInit
    lr: float
    num_steps: int
    scale_lr: float

    @property
    def residual(self) -> ResidualRule:
        """Which branch weights carry 1/K before they are scaled."""
        return self.start.residual

    def apply_(self, model: nn.Module, graph: Graph, *, family: Family, seed: int) -> None:
        """See `Initialization.apply_`."""
        self.start.apply_(model, graph, family=family, seed=seed)
        shapes = tuple((n, tuple(p.shape)) for n, p in model.named_parameters())
        search = _Search(self, family, seed, shapes)
        if search not in _KNOWN:
            _KNOWN[search] = _learnt(search, model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.mul_(_KNOWN[search].get(name, 1.0))


@dataclass(frozen=True)
class _Search:
    """What the scales depend on: a run of another rate has the same ones."""

    init: LearntScales
    family: Family
    seed: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]


_KNOWN: dict[_Search, dict[str, float]] = {}
"""Scales that this process has learnt."""


def _learnt(search: _Search, model: nn.Module) -> dict[str, float]:
    init = search.init
    report = gradinit_(
        copy.deepcopy(model),
        _batches(search),
        cross_entropy,
        optimizer=search.family.optimizer.name,
        lr=init.lr,
        num_steps=init.num_steps,
        scale_lr=init.scale_lr,
    )
    return report.scales


def _batches(search: _Search) -> tuple[tuple[Tensor, Tensor], ...]:
    data, size = load_data(search.family.data), search.family.budget.batch_size
    return tuple(data.batches(search.seed + _OTHER_BATCHES, size, 2 * search.init.num_steps))


_PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"),
            ladder([1, 2, 4]),
            Budget(2, 8),
            (0, 1),
            options(width=4),
            exhaustive=False,
        ),
        "cpu": Protocol(
            Data("digits"), ladder([2, 4, 8, 16]), Budget(100, 32), (0, 1), options(width=16)
        ),
        "paper": Protocol(
            Data("hf:cifar10"),
            ladder([4, 8, 16, 32, 64]),
            Budget(390, 128),
            (0, 1, 2),
            options(width=64, in_channels=3, image_size=32),
        ),
    }
)
"""The networks, data and budgets of the experiment `resnet`."""

_SEARCH_STEPS: Final[Mapping[str, int]] = MappingProxyType({"smoke": 2, "cpu": 60, "paper": 390})
"""390, one epoch of CIFAR-10, is the authors' number."""

_SCALE_LR = 0.03  # between the authors' 0.01 (VGG-19) and 0.05 (ResNet-110), both without norms
_SGD_LR = 0.1  # the authors' step for SGD
_ADAM_LR = 0.001


def study(scale: Scale) -> Study:
    """He without K, the same with learnt scales, and the formula's 1/K, on residual networks.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.

    Example:
        >>> [family.name for family in study("smoke").families][:2]
        ['He, SGD', 'GradInit, SGD']
    """
    make, steps = _PROTOCOLS[scale].family, _SEARCH_STEPS[scale]
    for_sgd = LearntScales(_HE, _SGD_LR, steps, _SCALE_LR)
    for_adam = LearntScales(_HE, _ADAM_LR, steps, _SCALE_LR)
    families = (
        make("He, SGD", "resnet", optimizer=SGD, start=0.1, initialization=_HE),
        make("GradInit, SGD", "resnet", optimizer=SGD, start=0.1, initialization=for_sgd),
        make("1/K, SGD", "resnet", optimizer=SGD, start=0.1),
        make("GradInit, Adam", "resnet", optimizer=ADAM, start=0.005, initialization=for_adam),
        make(
            "two-layer, GradInit, SGD",
            "resnet",
            optimizer=SGD,
            start=0.1,
            initialization=for_sgd,
            branch_layers=2,
        ),
    )
    learnt = [family.name for family in families if family.initialization in (for_sgd, for_adam)]
    return Study(
        name="gradinit",
        title="Learnt scales as initialization: optimal learning rate and loss over depth",
        papers=("arXiv 2102.08098", "[WU] arXiv 2602.07494"),
        scale=scale,
        families=families,
        claims=tuple(Claim(f"-3/2, {name}", "[WU]", name, -1.5) for name in learnt),
        notes=(
            "One-layer branches unless it says two-layer. arXiv 2102.08098 claims nothing about "
            "exponents; [WU] claims -3/2 under initializations that keep signals stable.",
            f"GradInit starts from He without K and takes {steps} steps, each a gradient, its "
            "derivative, and a second pass; they are not in the numbers of steps.",
        ),
    )
