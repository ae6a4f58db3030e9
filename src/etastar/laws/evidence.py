"""Laws that are made from evidence: what it is, and what follows; `measured` and `fitted`."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from etastar.errors import LawError
from etastar.fit import PowerLawPosterior, power_law_posterior
from etastar.laws.base import (
    Architecture,
    Effect,
    Factors,
    Law,
    ParamPair,
    ScaledWeights,
    TransferCase,
    learning_rate,
)
from etastar.laws.path_laws import (
    DepthCount,
    counted_depth,
    depth_count,
    depth_ratio,
    require_one_width,
)
from etastar.optimizers import OptimizerKind
from etastar.typed import set_numbers

Reads = Literal["network", "points", "criterion"]
"""Evidence that a law is made from: the base's kind, all tuned networks, the measured criterion."""


@dataclass(frozen=True)
class TunedPoint:
    """A tuned network as a law sees it.

    Attributes:
        network: The network.
        lr: Its tuned learning rate.
        log_lr_sd: Standard deviation of the logarithm of that rate; None where it is not known.
    """

    network: Architecture
    lr: float
    log_lr_sd: float | None = None


@final
@dataclass(frozen=True)
class Measured(Law):
    """Every rate times sqrt(M_base / M_target), M the mean-square update per squared rate.

    Both are measured with the other laws of the plan in force, so that this factor is what they
    leave to do. `plan_transfer(law="measured", measure=...)` makes it.

    Args:
        base: M of the base network.
        target: M of the target network.

    Raises:
        LawError: A mean square is not positive and finite.

    Example:
        >>> Measured(base=4.0, target=16.0).factor
        0.5

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """

    base: float
    target: float

    name: ClassVar[str] = "measured"

    def __post_init__(self) -> None:
        owner = f"the law {self.name!r}"
        set_numbers(self, "base", "target", error=LawError, above=0, owner=owner)

    @property
    def factor(self) -> float:
        """sqrt(M_base / M_target)."""
        return math.sqrt(self.base / self.target)

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        return learning_rate(self.factor, optimizer=case.optimizer)


@dataclass(frozen=True)
class Evidence:
    """What is known beyond base and target, for laws that are made from it.

    Attributes:
        points: The tuned networks, the one that the plan starts from last.
        target: The network to be trained.
        pairs: Its parameters with their counterparts in the last of the points.
        optimizer: Kind of the optimizer.
        initialized: Branch weights to which `initialize_` gave 1 / K in the base; None where the
            base has an initialization of its own.
        keep: Whether the target's initial weights stay as they are.
        laws: The laws that are bound already, to be in force while the criterion is measured.
        measure: Measures the criterion at both networks under these laws, and says what was found;
            None without a batch.
        powers: Power of 1/K in the variance of the inner and of the last weights of residual
            branches, as the initial weights of base and target show it; None where they do not.
    """

    points: tuple[TunedPoint, ...]
    target: Architecture
    pairs: tuple[ParamPair, ...]
    optimizer: OptimizerKind
    initialized: ScaledWeights | None = None
    keep: bool = False
    laws: tuple[Law, ...] = ()
    measure: Callable[[tuple[Law, ...]], tuple[Measured, str]] | None = None
    powers: tuple[float, float] | None = None


@dataclass(frozen=True)
class Bound:
    """What follows from evidence: the laws to plan with, and what is to be said of them.

    Attributes:
        laws: Laws without needs.
        read: What of the evidence they were made from.
        why: Two sentences on a choice; "" where the law was named.
        note: For the plan's notes.
        log_reach: Half the length of the 95% interval of the logarithm of the target's best rate;
            None where it is not known.
        residual: Branch weights that carry 1 / K where these laws are at home; "own" for the
            networks' own initialization, None for what the laws say.
        prior: Mean and standard deviation of d log(lr) / d log(effective depth) that were expected
            before any rate was tuned, without multipliers; None where nothing was.
    """

    laws: tuple[Law, ...]
    read: frozenset[Reads]
    why: str = ""
    note: str = ""
    log_reach: float | None = None
    residual: ScaledWeights | Literal["own"] | None = None
    prior: tuple[float, float] | None = None


class UnboundLaw(Law):
    """A law that is made from evidence: `bind` gives those to plan with.

    Attributes:
        reads: What of the evidence it may be made from.
    """

    reads: ClassVar[frozenset[Reads]]

    @abc.abstractmethod
    def bind(self, evidence: Evidence) -> Bound:
        """The laws that follow from the evidence, and why they are these.

        Raises:
            LawError: The evidence is not there.
        """

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """Refused: it has no factors before it is bound."""
        raise LawError(
            f"the law {self.name!r} before it was bound",
            "the law that bind returns",
            "let plan_transfer bind it, or call bind(evidence)",
        )


@final
@dataclass(frozen=True)
class Fitted(Law):
    """The learning rate follows a power law through tuned sizes, for every parameter.

    lr_target = lr_base exp(log_offset) (L_target / L_base)^exponent, L as it is counted; at the
    base itself its tuned rate stays. `plan_transfer(law="fitted")` makes it.

    Args:
        exponent: Fitted power of the depth ratio.
        log_offset: Logarithm of the line's rate at the base over the base's tuned rate.
        exponent_sd: Standard deviation of the exponent; kept for the record.
        count: What L is, as in `EffectiveDepth`.

    Raises:
        LawError: An option is not a finite number.

    Example:
        >>> Fitted(exponent=-0.8).options
        {'exponent': -0.8, 'log_offset': 0.0, 'exponent_sd': 0.0}

    Source: docs/definitions.md, section 5.
    """

    exponent: float
    log_offset: float = 0.0
    exponent_sd: float = 0.0
    count: DepthCount = "effective"

    name: ClassVar[str] = "fitted"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})
    named_if_set: ClassVar[frozenset[str]] = frozenset({"count"})

    def __post_init__(self) -> None:
        owner = f"the law {self.name!r}"
        set_numbers(self, "exponent", "log_offset", error=LawError, owner=owner)
        set_numbers(self, "exponent_sd", error=LawError, least=0, owner=owner)

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ratio = depth_ratio(case, self.count, law=self.name)
        offset = 0.0 if ratio == 1 else self.log_offset
        return learning_rate(math.exp(offset) * ratio**self.exponent, optimizer=case.optimizer)


@final
@dataclass(frozen=True)
class FitSizes(UnboundLaw):
    """The power law in effective depth that the tuned networks of a plan show, of one width.

    Of one tuned network it is that of the prior, [WU]'s.

    Example:
        >>> FitSizes().name
        'fitted'

    Source: docs/definitions.md, section 5.
    """

    name: ClassVar[str] = Fitted.name
    effects: ClassVar[frozenset[Effect]] = Fitted.effects
    reads: ClassVar[frozenset[Reads]] = frozenset({"points"})

    def posterior(self, points: Sequence[TunedPoint]) -> PowerLawPosterior:
        """The power law in depth, as `depth_count` counts it, through networks of one width.

        Example:
            >>> import torch
            >>> from etastar.laws import TunedPoint
            >>> from etastar.transfer import read_architecture
            >>> def net(depth):
            ...     layers = [torch.nn.Linear(8, 8) for _ in range(depth)]
            ...     return read_architecture((torch.nn.Sequential(*layers), torch.zeros(1, 8)))
            >>> points = [TunedPoint(net(depth), lr) for depth, lr in ((2, 0.4), (4, 0.2))]
            >>> fit = FitSizes().posterior(points)
            >>> round(fit.exponent, 2), round(fit.predict(16), 3)
            (-1.14, 0.039)
        """
        networks = [point.network for point in points]
        require_one_width(networks)
        count = depth_count(networks)
        return power_law_posterior(
            [counted_depth(network.report, count) for network in networks],
            [point.lr for point in points],
            variances=[(point.log_lr_sd or 0.0) ** 2 for point in points],
        )

    def bind(self, evidence: Evidence) -> Bound:
        """See `UnboundLaw.bind`: the fitted law, with the predictive interval at the target."""
        fit, start = self.posterior(evidence.points), evidence.points[-1]
        count = depth_count([point.network for point in evidence.points])
        line = fit.predict(counted_depth(start.network.report, count))
        law = Fitted(fit.exponent, math.log(line / start.lr), fit.exponent_sd, count)
        low, high = fit.interval(counted_depth(evidence.target.report, count))
        return Bound(
            (law,),
            self.reads,
            note=f"fitted: exponent {law.exponent:.3f} +- {law.exponent_sd:.3f}",
            log_reach=math.log(high / low) / 2,
        )
