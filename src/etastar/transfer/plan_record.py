"""What a plan holds: what was tuned, an entry for each parameter, laws as set, groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from etastar.errors import PlanError
from etastar.laws import Factors, ScaledWeights  # needed at run time, to decode plan files
from etastar.parameter import Role  # the same

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BaseRecord", "GroupPlan", "InitializationRecord", "LawRecord", "ParamPlan"]

_MOST: Final = 1e6
"""Largest factor, and one over the smallest, on a learning rate or an initialization.

A rate a million times smaller moves a float32 weight by less than its rounding, 2^-23, in each step
of the size that was right at the base; no law is known to hold that far.
"""
_ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class LawRecord:
    """A law as it was applied: its name and its options, by name."""

    name: str
    options: tuple[tuple[str, float | str | None], ...] = ()

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}({options})" if options else self.name


@dataclass(frozen=True)
class BaseRecord:
    """The base that a plan starts from, with the settings tuned on it.

    Attributes:
        depth: Effective depth.
        lr: Learning rate.
        aux_lr: Learning rate of what Muon does not update; None for other optimizers.
        weight_decay: Weight decay.
        eps: Epsilon that the caller gave; None for the optimizer's default.
        betas: Betas that the caller gave; None likewise.
        batch_size: Examples in a batch; None if unknown.
        num_steps: Optimizer steps; None if unknown.
        log_lr_sd: Standard deviation of the logarithm of the rate; None if unknown.
    """

    depth: int
    lr: float
    aux_lr: float | None = None
    weight_decay: float = 0.0
    eps: float | None = None
    betas: tuple[float, float] | None = None
    batch_size: int | None = None
    num_steps: int | None = None
    log_lr_sd: float | None = None

    def __post_init__(self) -> None:
        positive = {"depth": self.depth, "lr": self.lr, "aux_lr": self.aux_lr}
        other = {"weight_decay": self.weight_decay, "eps": self.eps, "log_lr_sd": self.log_lr_sd}
        _require_numbers("the base", positive, other)


@dataclass(frozen=True)
class InitializationRecord:
    """The initialization at which the plan's laws are at home; options of `initialize_`."""

    residual: ScaledWeights = "all"


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
        betas: Betas; None if the optimizer has none.

    Raises:
        PlanError: A number is none that an optimizer takes, or a factor is beyond a million.
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
    betas: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        positive = {"lr": self.lr, "init": self.init}
        _require_numbers(repr(self.name), positive, {"decay": self.weight_decay, "eps": self.eps})
        if self.betas is not None and not all(0 <= beta < 1 for beta in self.betas):
            raise PlanError(
                f"betas {self.betas} of {self.name!r}",
                "betas of at least 0 and below 1",
                "take a base nearer to the target",
            )
        for what, factor in (("learning rate", self.lr_multiplier), ("initialization", self.init)):
            if not 1 / _MOST <= factor <= _MOST:
                laws = " x ".join(name for name, _ in self.factors)
                raise PlanError(
                    f"{laws or 'no law'}: the {what} of {self.name!r} times {factor:.3g}",
                    f"a factor between {1 / _MOST:g} and {_MOST:g}",
                    "take a base nearer to the target, or another law",
                )
        if not math.isclose(
            self.init, math.prod(f.init for _, f in self.factors), rel_tol=_ROUNDING
        ):
            raise PlanError(
                f"init={self.init} of {self.name!r}, which is not the product of its factors",
                "a plan as plan_transfer made it",
                "make the plan again",
            )

    @property
    def lr_multiplier(self) -> float:
        """Product of the laws' factors on the learning rate."""
        return math.prod(factors.lr for _, factors in self.factors)

    def follows(self, rate: float) -> bool:
        """Whether its learning rate is that of the base times the laws' factors.

        Args:
            rate: Learning rate at the base.

        Returns:
            Up to rounding.
        """
        return math.isclose(self.lr, rate * self.lr_multiplier, rel_tol=_ROUNDING)


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
        betas: Betas; None where the optimizer's defaults are right.
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
    betas: tuple[float, float] | None
    factors: tuple[tuple[str, float], ...]
    init: tuple[float, ...]
    parameters: tuple[str, ...]


def _require_numbers(
    of: str, positive: Mapping[str, float | None], other: Mapping[str, float | None]
) -> None:
    bad = {k: v for k, v in positive.items() if v is not None and not (math.isfinite(v) and v > 0)}
    bad |= {k: v for k, v in other.items() if v is not None and not (math.isfinite(v) and v >= 0)}
    if bad:
        raise PlanError(
            f"{', '.join(f'{k}={v}' for k, v in bad.items())} of {of}",
            "positive finite numbers (weight decay and epsilon may be zero)",
            "correct the learning rate, weight decay or epsilon that the plan was made with",
        )
