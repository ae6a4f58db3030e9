"""From the settings at the base and a target's parameters to their entries in a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import mul
from typing import Any

from etastar.errors import PlanError, RecurrentError
from etastar.laws import (
    Architecture,
    Factors,
    Law,
    ParamPair,
    TransferCase,
    Width,
    fold_multiplier,
    residual_rule,
)
from etastar.optimizers import OptimizerKind
from etastar.transfer.correspondence import match_parameters
from etastar.transfer.plan import TransferPlan
from etastar.transfer.plan_notes import decay_notes, notes_on_multipliers, notes_on_ties
from etastar.transfer.plan_record import BaseRecord, InitializationRecord, LawRecord, ParamPlan
from etastar.transfer.tuned import DecayAtBase


@dataclass(frozen=True)
class Planner:
    """Everything that is the same for all parameters of a plan, and for all its networks."""

    optimizer: OptimizerKind
    tuned: BaseRecord
    decay: DecayAtBase
    base: Architecture
    allow_recurrent: bool
    target_eps: float | None = None
    factors: dict[Any, Any] = field(default_factory=dict)  # each once, however many have them

    def plan(
        self,
        target: Architecture,
        laws: tuple[Law, ...],
        pairs: Sequence[ParamPair] | None = None,
    ) -> TransferPlan:
        """The plan of a target under laws; the pairs where they are known."""
        recurrent = ", ".join(dict.fromkeys(self.base.report.recurrent + target.report.recurrent))
        if recurrent and not self.allow_recurrent:
            raise RecurrentError(
                f"a recurrent network; applied again on one path: {recurrent}",
                "a network whose layers each have parameters of their own",
                "tune the target itself, or insist with allow_recurrent=True",
            )
        for name, layers in {**self.base.report.stacked, **target.report.stacked}.items():
            raise PlanError(
                f"{name}, which holds the weights of {layers} layers in one tensor",
                "a parameter for every layer: a plan gives each a rate and an initialization",
                "keep the layers' weights in an nn.ParameterList, or a module each",
            )
        pairs = pairs or match_parameters(self.base.parameters, target.parameters)
        self.decay.require_matches(pairs)
        for law in laws:
            law.check(pairs)
        parameters = tuple(self.entry(pair, target, laws) for pair in pairs)
        has_width = any(isinstance(law, Width) for law in laws)
        if all(entry.optimizer != self.optimizer.name for entry in parameters):
            raise PlanError(
                f"a network without a parameter that {self.optimizer.name} updates",
                "at least one hidden weight that is a matrix",
                f"plan for {parameters[0].optimizer} in place of {self.optimizer.name}",
            )
        return TransferPlan(
            laws=tuple(LawRecord(law.name, tuple(law.options.items())) for law in laws),
            optimizer=self.optimizer,
            base=self.tuned,
            target_depth=target.report.effective_depth,
            parameters=parameters,
            notes=(
                *notes_on_ties(pairs, target.report.tied if has_width else ()),
                *([f"recurrent, not covered by the laws: {recurrent}"] if recurrent else []),
                *notes_on_multipliers(pairs, laws, lambda pair: self._case(pair, target)),
                *decay_notes(self.decay, pairs, parameters),
            ),
            initialization=InitializationRecord(residual_rule(laws)),
        )

    def entry(self, pair: ParamPair, target: Architecture, laws: Sequence[Law]) -> ParamPlan:
        """The plan's entry for one parameter."""
        case = self._case(pair, target)
        kind = case.optimizer
        by_law = tuple(
            (law.name, fold_multiplier(law.factors(pair, case), optimizer=kind)) for law in laws
        )
        by_law = self.factors.setdefault(by_law, by_law)
        total = reduce(mul, (factors for _, factors in by_law), Factors())
        auxiliary = kind.name != self.optimizer.name
        rate = self.tuned.aux_lr if auxiliary and self.tuned.aux_lr is not None else self.tuned.lr
        given = kind.betas is not None and self.tuned.betas is not None
        betas = self.tuned.betas if given else kind.betas
        info = pair.target
        return ParamPlan(
            name=info.name,
            shape=info.shape,
            role=info.role,
            optimizer=kind.name,
            lr=rate * total.lr,
            weight_decay=self.decay.of(pair) * total.weight_decay,
            eps=self._eps(kind, total),
            init=total.init,
            factors=by_law,
            aliases=info.aliases,
            betas=None if betas is None else _scaled_betas(betas, total.betas),
            gain_offset=info.gain_offset,
        )

    def _case(self, pair: ParamPair, target: Architecture) -> TransferCase:
        return TransferCase(self.base, target, self.optimizer.for_parameter(pair.target))

    def _eps(self, kind: OptimizerKind, by: Factors) -> float | None:
        """At the target; of Muon and its AdamW the latter alone takes what the caller gave."""
        takes = kind.fallback is None
        if takes and self.target_eps is not None:
            return self.target_eps
        eps = self.tuned.eps if takes and self.tuned.eps is not None else kind.eps
        return None if eps is None else eps * by.eps


def _scaled_betas(betas: tuple[float, float], factors: tuple[float, float]) -> tuple[float, float]:
    """Betas whose distances from 1 are multiplied; exactly as they were by a factor of 1."""
    first, second = (
        beta if factor == 1 else 1 - (1 - beta) * factor
        for beta, factor in zip(betas, factors, strict=True)
    )
    for place, beta, own, factor in zip("12", (first, second), betas, factors, strict=True):
        if factor != 1 and not 0 < beta < 1:
            raise PlanError(
                f"beta_{place} = {beta:.4g}, from {own:g} with 1 - beta_{place} times {factor:.4g}",
                "a beta between 0 and 1",
                "take a batch size and a duration nearer to the base's, or betas nearer to 1; or "
                "scale the rate alone, as BatchSize(scales='rate') and Duration(scales='rate') do",
            )
    return first, second
