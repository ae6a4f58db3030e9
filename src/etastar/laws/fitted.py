"""The law `fitted`: a power law through tuned sizes, and how it is made from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from etastar.errors import LawError
from etastar.fit import PowerLawPosterior, power_law_posterior
from etastar.laws.base import Effect, Factors, Law, ParamPair, TransferCase, learning_rate
from etastar.laws.evidence import Bound, Evidence, Reads, TunedPoint, UnboundLaw
from etastar.laws.path_laws import (
    DepthCount,
    counted_depth,
    depth_count,
    depth_ratio,
    require_one_width,
)
from etastar.typed import set_numbers


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
