"""What every law sees and gives: two architectures, a pair of parameters, and factors."""

from __future__ import annotations

import abc
import math
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from etastar.errors import LawError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.depth import DepthReport
    from etastar.optimizers import OptimizerKind
    from etastar.parameter import ParamInfo

__all__ = [
    "Architecture",
    "Effect",
    "Factors",
    "Law",
    "ParamPair",
    "checked_number",
    "learning_rate",
]

Effect = Literal["learning rate over depth", "branch multiplier", "width"]
"""What a law rescales; two laws may not set a branch multiplier and rescale over depth as well."""


@dataclass(frozen=True)
class Architecture:
    """A network as the laws see it: the statistics of its paths, and its parameters.

    Attributes:
        report: Effective depth and path statistics.
        parameters: Every parameter, each tensor once.
    """

    report: DepthReport
    parameters: tuple[ParamInfo, ...]


@dataclass(frozen=True)
class ParamPair:
    """A parameter of the target, and the parameter of the base that stands for it.

    Attributes:
        base: The parameter at the base size.
        target: The parameter at the target size.
        size_ratio: Target over base size of the feature dimension; used for biases and gains only.
    """

    base: ParamInfo
    target: ParamInfo
    size_ratio: float = 1.0

    @property
    def kernel_ratio(self) -> float:
        """Target over base number of taps of a convolution's kernel; 1 for anything else."""
        return math.prod(self.target.kernel_size) / math.prod(self.base.kernel_size)

    @property
    def kernel_side_ratio(self) -> float:
        """Target over base side of a convolution's kernel (geometric mean); 1 for anything else."""
        return math.pow(self.kernel_ratio, 1 / max(1, len(self.target.kernel_size)))

    @property
    def fan_in_ratio(self) -> float:
        """Target over base fan-in, counted in channels: the kernel is not width."""
        return self.target.fan_in / self.base.fan_in / self.kernel_ratio

    @property
    def units_ratio(self) -> float:
        """Target over base number of output units (of a grouped layer: over all groups)."""
        if not self.target.is_weight:
            return self.size_ratio
        if self.target.role == "embedding":
            return self.target.fan_out / self.base.fan_out
        return _output_units(self.target) / _output_units(self.base)

    @property
    def stream_ratio(self) -> float:
        """K of the target's residual stream over K of the base's; 1 outside of branches.

        Raises:
            LawError: The target's parameter lies on a branch and the base's stream has none.
        """
        if not self.target.in_branch:
            return 1.0
        if self.base.stream_additions < 1:
            raise LawError(
                f"{self.target.name!r} on a residual branch, where the base network has none",
                "a base network with at least one residual addition in that stream",
                "take a base network that has blocks of every kind the target has",
            )
        return self.target.stream_additions / self.base.stream_additions


def _output_units(info: ParamInfo) -> float:
    return math.prod(info.shape) / info.fan_in


@dataclass(frozen=True)
class Factors:
    """What a law multiplies; the product of two laws is the product of their factors.

    Attributes:
        lr: On the learning rate.
        multiplier: On the layer's output, as if the forward pass had it (`laws.multiplier`).
        init: On the standard deviation at initialization.
        eps: On the epsilon of an Adam-like optimizer.
        weight_decay: On the weight decay.

    Example:
        >>> Factors(lr=0.5) * Factors(lr=0.5, eps=2.0)
        Factors(lr=0.25, multiplier=1.0, init=1.0, eps=2.0, weight_decay=1.0)
    """

    lr: float = 1.0
    multiplier: float = 1.0
    init: float = 1.0
    eps: float = 1.0
    weight_decay: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise LawError(
                    f"a factor of {value} on {name}",
                    "a positive finite factor",
                    "take a base nearer to the target, or another exponent",
                )

    def __mul__(self, other: Factors) -> Factors:
        return Factors(
            **{f.name: getattr(self, f.name) * getattr(other, f.name) for f in fields(Factors)}
        )


def learning_rate(factor: float, *, optimizer: OptimizerKind) -> Factors:
    """A factor on the learning rate that keeps lr x wd where weight decay is decoupled.

    Args:
        factor: Multiplier of the learning rate.
        optimizer: Kind of the optimizer. Coupled decay is part of the loss and stays as it is.

    Returns:
        The factors.
    """
    if not (math.isfinite(factor) and factor > 0):
        return Factors(lr=factor)
    return Factors(lr=factor, weight_decay=1 / factor if optimizer.decoupled_weight_decay else 1.0)


class Law(abc.ABC):
    """A rule that maps (base, target) to factors for every parameter; abstract or final.

    A concrete law is a frozen dataclass whose fields are its options. It is a pure function: the
    same arguments give the same factors, and at the base size every factor is exactly 1.

    Attributes:
        name: Name in the registry and in plans.
        effects: What it rescales.
    """

    name: ClassVar[str]
    effects: ClassVar[frozenset[Effect]] = frozenset()

    @abc.abstractmethod
    def factors(
        self,
        pair: ParamPair,
        *,
        base: Architecture,
        target: Architecture,
        optimizer: OptimizerKind,
    ) -> Factors:
        """Factors for one parameter.

        Args:
            pair: The parameter at both sizes.
            base: The network whose learning rate was tuned.
            target: The network that is to be trained.
            optimizer: Kind of the optimizer that updates this parameter.

        Returns:
            The factors, relative to the base.
        """

    def check(self, pairs: Sequence[ParamPair]) -> None:  # noqa: B027  most laws fit everywhere
        """Refuse networks that the law cannot be applied to; by default none.

        Args:
            pairs: All parameters of the target with their counterparts.

        Raises:
            LawError: The law cannot be applied; the message names the place.
        """

    @property
    def options(self) -> dict[str, Any]:
        """The law's settings by name, as plain data."""
        return asdict(self) if is_dataclass(self) else {}


def checked_number(law: str, option: str, value: object, *, least: float = -math.inf) -> None:
    """Refuse an option of a law that is not a finite number of at least `least`.

    Args:
        law: Name of the law.
        option: Name of the option.
        value: What was given.
        least: Smallest value allowed.

    Raises:
        LawError: It is not.
    """
    number = float(value) if isinstance(value, (int, float)) else math.nan
    number = math.nan if isinstance(value, bool) else number
    if not (math.isfinite(number) and number >= least):
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise LawError(
            f"{option}={value!r} of the law {law!r}",
            f"a finite number{bound}",
            f"correct {option}, or leave it out for the default",
        )
