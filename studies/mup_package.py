"""The peer `mup`: networks initialized and optimized by the package of that name [TP5]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from etastar.graph import Graph
from etastar.sweep.recipe import Size
from studies.initialization import StableInit

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from studies.declaration import Family

_READOUT: Final = "head"  # of every network of the zoo


@dataclass(frozen=True)
class MupInit:
    """`MuReadout` in place of the head, base shapes, and the package's own factors on the draw.

    Attributes:
        base: Size at which the package changes nothing.
        start: What is drawn before, with variance gain / fan-in.
    """

    base: Size
    start: StableInit = StableInit()  # noqa: RUF009  frozen

    def apply_(self, model: nn.Module, graph: Graph, *, family: Family, seed: int) -> None:
        """See `Initialization.apply_`."""
        from mup import set_base_shapes

        self.start.apply_(model, graph, family=family, seed=seed)
        with torch.random.fork_rng(devices=[]):  # the run's own numbers are not the base's
            base = family.network.build(**dict(self.base))
        for network in (model, base):
            _take_readout_(network)
        set_base_shapes(model, base, do_assert=False)


def _take_readout_(model: nn.Module) -> None:
    """Put the package's readout in place of the head, with the head's own weights."""
    from mup import MuReadout

    head: Any = model.get_submodule(_READOUT)
    with torch.random.fork_rng(devices=[]):
        readout = MuReadout(head.in_features, head.out_features, bias=head.bias is not None)
    readout.weight, readout.bias = head.weight, head.bias
    setattr(model, _READOUT, readout)


def _mu_sgd(parameters: Iterable[nn.Parameter], **settings: Any) -> Optimizer:
    from mup import MuSGD

    made: Optimizer = MuSGD(parameters, **settings)
    return made


def _mu_adam(parameters: Iterable[nn.Parameter], **settings: Any) -> Optimizer:
    from mup import MuAdam

    made: Optimizer = MuAdam(parameters, **settings)
    return made


def _mu_adamw(parameters: Iterable[nn.Parameter], **settings: Any) -> Optimizer:
    from mup import MuAdamW

    made: Optimizer = MuAdamW(parameters, **settings)
    return made


MUP_OPTIMIZERS: Final[Mapping[str, Any]] = {
    "mup-sgd": _mu_sgd,
    "mup-adam": _mu_adam,
    "mup-adamw": _mu_adamw,
}
"""The package's optimizers, by the names that declarations use."""
