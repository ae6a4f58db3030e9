"""What a plan holds: an entry for each parameter, a law as it was set, a group of parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from etastar.errors import PlanError
from etastar.laws import Factors  # needed at run time, to decode plan files
from etastar.parameter import Role  # the same

__all__ = ["GroupPlan", "LawRecord", "ParamPlan"]


@dataclass(frozen=True)
class LawRecord:
    """A law as it was applied: its name and its options, by name."""

    name: str
    options: tuple[tuple[str, float | str | None], ...] = ()

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}({options})" if options else self.name


@dataclass(frozen=True)
class ParamPlan:
    """Hyperparameters of one parameter.

    Attributes:
        name: Canonical name.
        shape: Shape at the target.
        role: Its role in the network.
        optimizer: Name of the optimizer's kind that updates it.
        lr: Learning rate.
        weight_decay: Weight decay, as the optimizer takes it.
        eps: Epsilon; None if the optimizer has none.
        init: Factor on its values right after initialization.
        factors: Name of each law and its factors, multipliers already folded in.
        aliases: Other names of the same tensor.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    optimizer: str
    lr: float
    weight_decay: float
    eps: float | None
    init: float
    factors: tuple[tuple[str, Factors], ...]
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        positive = {"lr": self.lr, "init": self.init}
        bad = {k: v for k, v in positive.items() if not (math.isfinite(v) and v > 0)}
        bad |= {
            k: v
            for k, v in {"weight_decay": self.weight_decay, "eps": self.eps or 0.0}.items()
            if not (math.isfinite(v) and v >= 0)
        }
        if bad:
            shown = ", ".join(f"{k}={v}" for k, v in bad.items())
            raise PlanError(
                f"{shown} of {self.name!r}",
                "positive finite numbers (weight decay and epsilon may be zero)",
                "correct the learning rate, weight decay or epsilon that the plan was made with",
            )

    @property
    def lr_multiplier(self) -> float:
        """Product of the laws' factors on the learning rate."""
        return math.prod(factors.lr for _, factors in self.factors)


@dataclass(frozen=True)
class GroupPlan:
    """Parameters that share every hyperparameter.

    Attributes:
        name: Number and roles, e.g. "0 hidden".
        optimizer: Name of the optimizer's kind.
        lr: Learning rate.
        lr_multiplier: Learning rate over the one that was tuned.
        weight_decay: Weight decay.
        eps: Epsilon; None where the optimizer's default is right.
        factors: Name of each law and its factor on the learning rate.
        init: Factors on the values at initialization that occur in the group.
        parameters: Names.
    """

    name: str
    optimizer: str
    lr: float
    lr_multiplier: float
    weight_decay: float
    eps: float | None
    factors: tuple[tuple[str, float], ...]
    init: tuple[float, ...]
    parameters: tuple[str, ...]
