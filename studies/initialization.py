"""Initializations of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from etastar.graph import Graph
from etastar.init import initialize_
from etastar.init.schemes import Readout, ResidualRule
from etastar.naming import canonical_parameters

if TYPE_CHECKING:
    from torch import nn

    from studies.declaration import Family


@dataclass(frozen=True)
class StableInit:
    """`etastar.initialize_`: He with the rule for residual branches.

    Attributes:
        residual: Which weights of a branch carry K^(-power) in their variance.
        power: 1 is the rule of [AM]; 2 is what is asked of it beside.
        readout: Of the output weights.
    """

    residual: ResidualRule = "all"
    power: float = 1.0
    readout: Readout = "standard"

    def apply_(self, model: nn.Module, graph: Graph, *, family: Family, seed: int) -> None:
        """See `Initialization.apply_`."""
        report = initialize_(model, graph, residual=self.residual, readout=self.readout, seed=seed)
        if self.power == 1.0:
            return
        parameters = canonical_parameters(model)
        for info in graph.parameters:
            if info.in_branch and report[info.name].factor < 1:
                further = info.stream_additions ** ((1 - self.power) / 2)
                with torch.no_grad():
                    parameters[info.name].mul_(further)


@dataclass(frozen=True)
class OwnInit:
    """The model's own initialization, as its factory left it."""

    residual: ClassVar[ResidualRule] = "none"

    def apply_(self, model: nn.Module, graph: Graph, *, family: Family, seed: int) -> None:
        """See `Initialization.apply_`: nothing is touched."""


@dataclass(frozen=True)
class InDegreeInit:
    """`etastar.initialize_` with the variance of a branch divided by the number that is summed."""

    residual: ClassVar[ResidualRule] = "all"

    def apply_(self, model: nn.Module, graph: Graph, *, family: Family, seed: int) -> None:
        """See `Initialization.apply_`."""
        initialize_(model, graph, scheme="in-degree", seed=seed)
