"""What a plan holds: what was tuned, an entry for each parameter, laws as set, groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from etastar.errors import PlanError
from etastar.laws import Factors  # needed at run time, to decode plan files
from etastar.parameter import Role  # the same
from etastar.typed import plain_number, set_numbers

__all__ = [
    "ROUNDING",
    "BaseRecord",
    "GroupPlan",
    "InitializationRecord",
    "LawRecord",
    "ParamPlan",
    "require_settings",
]

_MOST: Final = 1e6
"""Largest factor, and one over the smallest, on a learning rate or an initialization.

A rate a million times smaller moves a float32 weight by less than its rounding, 2^-23, in each step
of the size that was right at the base; no law is known to hold that far.
"""
ROUNDING: Final = 1e-6
"""Relative difference of numbers of a plan that are equal but for rounding."""

_BOUNDS: Final[dict[str, Any]] = {
    **{key: {"above": 0} for key in ("lr", "aux_lr", "init")},
    **{key: {"least": 0} for key in ("weight_decay", "eps", "log_lr_sd")},
    **{key: {"least": 1, "whole": True} for key in ("depth", "batch_size", "num_steps")},
}


def require_settings(record: object, *, owner: str = "") -> None:
    """Make a record's settings Python's numbers; refuse what none of them can be.

    Args:
        record: A frozen one. Fields of the usual names are read; None stands for unknown, but for
            `lr`.
        owner: Of what it is the record, for the message.

    Raises:
        PlanError: A number is not valid.
    """
    for name, bounds in _BOUNDS.items():
        value = getattr(record, name, None)
        if value is not None or (name == "lr" and hasattr(record, name)):
            set_numbers(record, name, error=PlanError, owner=owner, **bounds)
    betas = getattr(record, "betas", None)
    if betas is None:
        return
    two = tuple(map(plain_number, betas)) if isinstance(betas, (tuple, list)) else ()
    if len(two) == 2 and all(beta is not None and 0 <= beta < 1 for beta in two):
        object.__setattr__(record, "betas", two)
    else:
        raise PlanError(
            f"betas={betas!r}{f' of {owner}' if owner else ''}",
            "two numbers of at least 0 and below 1",
            "give e.g. (0.9, 0.95)",
        )


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
        require_settings(self, owner="the base")


@dataclass(frozen=True)
class InitializationRecord:
    """The initialization at which the plan's laws are at home.

    Attributes:
        residual: Branch weights to which `initialize_` gives 1 / K; "own" where the rate was tuned
            under the network's own initialization, which `initialize_` would replace.
    """

    residual: Literal["all", "last", "none", "own"] = "all"


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
        init: Factor m on its values w right after initialization: w' = m (w + c) - c.
        factors: Name of each law and its factors, multipliers already folded in.
        aliases: Other names of the same tensor.
        betas: Betas; None if the optimizer has none.
        gain_offset: c; 1 for a gain that the network reads as 1 + w, 0 for anything else.

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
    gain_offset: float = 0.0

    def __post_init__(self) -> None:
        require_settings(self, owner=f"{self.name!r}, the base's times the laws' factors")
        for what, factor in (("learning rate", self.lr_multiplier), ("initialization", self.init)):
            if not 1 / _MOST <= factor <= _MOST:
                laws = " x ".join(name for name, _ in self.factors)
                raise PlanError(
                    f"{laws or 'no law'}: the {what} of {self.name!r} times {factor:.3g}",
                    f"a factor between {1 / _MOST:g} and {_MOST:g}",
                    "take a base nearer to the target, or another law",
                )
        if not math.isclose(
            self.init, math.prod(f.init for _, f in self.factors), rel_tol=ROUNDING
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
