"""What every law sees and gives: two architectures, a pair of parameters, and factors."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal

from etastar.depth import DepthReport
from etastar.errors import LawError
from etastar.optimizers import OptimizerKind
from etastar.parameter import NetworkFeatures, ParamInfo

Effect = Literal["learning rate over depth", "branch multiplier", "width", "batch size", "duration"]
"""What a law rescales, or follows; none may set a branch multiplier and rescale over depth."""

ScaledWeights = Literal["all", "last", "none"]
"""Weights of a residual branch whose variance carries 1 / K; `residual=` of `initialize_`."""


@dataclass(frozen=True)
class Training:
    """How a network is trained, as far as a law may ask; None where it is not known.

    Attributes:
        batch_size: Examples (or tokens) in a batch.
        num_steps: Optimizer steps.
    """

    batch_size: int | None = None
    num_steps: int | None = None

    @property
    def examples(self) -> int | None:
        """Examples (or tokens) seen; None where it is not known."""
        known = self.batch_size is not None and self.num_steps is not None
        return self.batch_size * self.num_steps if known else None  # type: ignore[operator]


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network as the laws see it: the statistics of its paths, its parameters, its training.

    Attributes:
        report: Effective depth and path statistics.
        parameters: Every parameter, each tensor once.
        training: Batch size and steps.
        features: What decides of which kind it is; None where its graph was not at hand.
    """

    report: DepthReport
    parameters: tuple[ParamInfo, ...]
    training: Training = Training()
    features: NetworkFeatures | None = None


@dataclass(frozen=True)
class TransferCase:
    """From where a plan goes to where, and by which optimizer.

    Attributes:
        base: The network whose learning rate was tuned.
        target: The network that is to be trained.
        optimizer: Kind of the optimizer.
    """

    base: Architecture
    target: Architecture
    optimizer: OptimizerKind


@dataclass(frozen=True)
class ParamPair:
    """A parameter of the target, and the parameter of the base that stands for it.

    Attributes:
        base: The parameter at the base size.
        target: The parameter at the target size.
        own_ratio: Target over base constant factor that the network itself puts on what it makes.
    """

    base: ParamInfo
    target: ParamInfo
    own_ratio: float = 1.0

    def beside_own(self, multiplier: float) -> float:
        """What is left of a law's multiplier where the network has a part of it itself.

        1 of 1: where the law has no factor there is none to apply twice.
        """
        left = multiplier / self.own_ratio if multiplier != 1 else 1.0
        return 1.0 if math.isclose(left, 1.0, rel_tol=1e-9) else left

    @property
    def kernel_ratio(self) -> float:
        """Target over base number of taps of a convolution's kernel; 1 for anything else."""
        return math.prod(self.target.kernel_size) / math.prod(self.base.kernel_size)

    @property
    def fan_in_ratio(self) -> float:
        """Target over base features that it reads; 1 for a size that is no width.

        The kernel of a convolution is none, nor is the rank of an adapter.
        """
        known = _ratio(self.target.features_in, self.base.features_in)
        return self.target.fan_in / self.base.fan_in / self.kernel_ratio if known is None else known

    @property
    def units_ratio(self) -> float:
        """Target over base features that it makes or belongs to; 1 for a size that is no width.

        Of a grouped layer over all groups. Classes, experts, heads and layers are no features.
        """
        known = _ratio(self.target.features_out, self.base.features_out)
        return _units(self.target) / _units(self.base) if known is None else known

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


def _ratio(target: int | None, base: int | None) -> float | None:
    """Ratio of two widths; 1 where either is none, None where either is not known."""
    if target is None or base is None:
        return None
    return target / base if target and base else 1.0


def _units(info: ParamInfo) -> float:
    """Output units by the shape alone; of a vector or a table its features."""
    is_layer = info.is_weight and info.role != "embedding"
    return math.prod(info.shape) / info.fan_in if is_layer else info.fan_out


@dataclass(frozen=True)
class Factors:
    """What a law multiplies; the product of two laws is the product of their factors.

    Attributes:
        lr: On the learning rate.
        multiplier: On the layer's output, as if the forward pass had it (`fold_multiplier`).
        init: On the standard deviation at initialization.
        eps: On the epsilon of an Adam-like optimizer.
        weight_decay: On the weight decay.
        betas: On 1 - beta_1 and on 1 - beta_2 of an Adam-like optimizer.

    Example:
        >>> product = Factors(lr=0.5, betas=(1.0, 2.0)) * Factors(lr=0.5, betas=(1.0, 2.0))
        >>> product.lr, product.betas
        (0.25, (1.0, 4.0))
    """

    lr: float = 1.0
    multiplier: float = 1.0
    init: float = 1.0
    eps: float = 1.0
    weight_decay: float = 1.0
    betas: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        names = ("lr", "multiplier", "init", "eps", "weight_decay", "1 - beta_1", "1 - beta_2")
        rest = self.lr, self.multiplier, self.init, self.eps, self.weight_decay
        for name, value in zip(names, (*rest, *self.betas), strict=True):
            if not 0 < value < math.inf:
                raise LawError(
                    f"a factor of {value} on {name}",
                    "a positive finite factor",
                    "take a base nearer to the target, or another exponent",
                )

    def __mul__(self, other: Factors) -> Factors:
        numbers = [f.name for f in fields(Factors) if f.name != "betas"]
        return Factors(
            **{name: getattr(self, name) * getattr(other, name) for name in numbers},
            betas=(self.betas[0] * other.betas[0], self.betas[1] * other.betas[1]),
        )


def learning_rate(factor: float, *, optimizer: OptimizerKind) -> Factors:
    """A factor on the learning rate that keeps lr x wd where weight decay is decoupled.

    Coupled decay is part of the loss and stays as it is.
    """
    rate = Factors(lr=factor)
    return replace(rate, weight_decay=1 / factor) if optimizer.decoupled_weight_decay else rate


def fold_multiplier(factors: Factors, *, optimizer: OptimizerKind) -> Factors:
    """Express the multiplier m on a layer's output by its initialization and hyperparameters.

    A layer m V is a layer W with W = m V, and the gradients are g_V = m g_W. Multiplying one step
    of V by m gives the step of W:

    - SGD, V <- V - lr (g_V + wd V): W <- W - lr m^2 (g_W + wd / m^2 W).
    - Adam-like, coupled decay, the direction is normalized from m (g_W + wd / m^2 W):
      lr m, wd / m^2, eps / m.
    - Adam-like, decoupled decay, V <- (1 - lr wd) V - lr n(g_V): lr m, wd / m, eps / m.
    - Relative, V <- (1 - lr wd) V - lr |V| n(g_V): nothing but the initial size. What starts at
      zero moves by the optimizer's least size (Adafactor's eps_2) until it is larger.

    In each case the initial standard deviation is m times the one of V. Equal up to rounding, also
    with momentum, moments and clipping by value of the update (not clipping by gradient norm,
    which sees other gradients).

    Args:
        factors: Factors with a multiplier.
        optimizer: Kind of the optimizer that updates the parameter.

    Returns:
        Factors with multiplier 1 that train the same function.

    Example:
        >>> from etastar.optimizers import optimizer_kind
        >>> folded = fold_multiplier(Factors(multiplier=0.5), optimizer=optimizer_kind("sgd"))
        >>> folded.lr, folded.multiplier, folded.init, folded.weight_decay
        (0.25, 1.0, 0.5, 4.0)

    Source: [TP5] Appendix J.2.1 (abc-symmetry); the weight decay is derived here.
    """
    m = factors.multiplier
    if optimizer.update == "sgd":
        change = Factors(init=m, lr=m**2, weight_decay=m**-2)
    elif optimizer.update == "relative":
        change = Factors(init=m)
    elif optimizer.decoupled_weight_decay:
        change = Factors(init=m, lr=m, eps=1 / m, weight_decay=1 / m)
    else:
        change = Factors(init=m, lr=m, eps=1 / m, weight_decay=m**-2)
    return replace(factors, multiplier=1.0) * change


class Law(abc.ABC):
    """A rule that maps (base, target) to factors for every parameter; abstract or final.

    A concrete law is a frozen dataclass whose fields are its options. It is a pure function: the
    same arguments give the same factors, and at the base size every factor is exactly 1.

    Attributes:
        name: Name in the registry and in plans.
        effects: What it rescales.
        alone: Whether it is refused beside any other law over depth.
        named_if_set: Options that a plan names only where they are not the default.
    """

    name: ClassVar[str]
    effects: ClassVar[frozenset[Effect]] = frozenset()
    alone: ClassVar[bool] = False
    named_if_set: ClassVar[frozenset[str]] = frozenset()

    @abc.abstractmethod
    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """Factors for one parameter.

        Args:
            pair: The parameter at both sizes.
            case: Both networks, and the optimizer that updates this parameter.

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

    def notes(self, case: TransferCase) -> Iterable[str]:
        """What a plan says of this law: what it was derived for, what it could not do.

        Args:
            case: Both networks and the optimizer, with the betas of the base.

        Returns:
            Sentences; by default none.
        """
        return ()

    @property
    def residual(self) -> ScaledWeights:
        """Branch weights whose variance carries 1 / K where this law is at home.

        "none" for a law that brings a branch multiplier itself: an initialization with 1 / K beside
        it counts depth twice.
        """
        return "all"

    @property
    def options(self) -> dict[str, Any]:
        """The law's settings by name, as plain data."""
        own: dict[str, Any] = asdict(self) if is_dataclass(self) else {}
        usual = {name: getattr(type(self), name) for name in self.named_if_set}
        return {k: v for k, v in own.items() if k not in usual or v != usual[k]}
