"""From two networks, a learning rate and laws to a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Literal

from etastar.errors import LawError, OptimizerError, PlanError, RecurrentError
from etastar.laws import Factors, Law, Measured, Width, fold_multiplier, get_laws
from etastar.optimizers import optimizer_kind
from etastar.transfer.architecture import read_architecture
from etastar.transfer.auto import AUTO, CANDIDATES, choose_rule, network_kind, read_table
from etastar.transfer.correspondence import match_parameters
from etastar.transfer.fitting import Tuned, TunedFit, fit_tuned
from etastar.transfer.measuring import Measure, split_measured, with_measured
from etastar.transfer.plan import TransferPlan
from etastar.transfer.record import LawRecord, ParamPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.laws import Architecture, ParamPair
    from etastar.optimizers import OptimizerKind, OptimizerLike
    from etastar.transfer.architecture import Network
    from etastar.transfer.auto import Choice

__all__ = ["WeightDecayRule", "WidthRule", "plan_transfer"]

WidthRule = Literal["mup", "none"]
WeightDecayRule = Literal["independent", "fixed"]


def plan_transfer(
    base: Network | None = None,
    target: Network | None = None,
    *,
    optimizer: OptimizerLike,
    lr: float | None = None,
    bases: Sequence[Tuned] | None = None,
    law: str | Law | Sequence[str | Law] = "effective-depth",
    width: WidthRule = "mup",
    weight_decay: float | None = None,
    weight_decay_rule: WeightDecayRule = "independent",
    eps: float | None = None,
    aux_lr: float | None = None,
    allow_recurrent: bool = False,
    measure: Measure | None = None,
) -> TransferPlan:
    """Carry a learning rate tuned at the base to every parameter of the target.

    lr(parameter) = lr x product of the laws' factors and the width rule's; likewise weight decay,
    epsilon and the factor on the initialization. At the base size every factor is 1.

    Args:
        base: Network whose learning rate was tuned: a `Graph`, or (model, example inputs) with a
            tuple of arguments or a dict of keyword arguments.
        target: Network to be trained, in the same form.
        lr: Learning rate tuned at the base.
        bases: In place of `base`, `lr` and `law`: two or more tuned networks of one width with
            their learning rates, for the law `fitted` (`fit_tuned` has its settings); the plan
            starts from the deepest, and its notes hold the predictive interval.
        optimizer: "sgd", "adam", "adamw", "muon", one of these torch optimizers, or what
            `optimizer_like` returned. Momentum and betas are the caller's own and stay.
        law: One depth law or several, by name or instance; their factors multiply. "measured"
            needs `measure`. "auto" takes the law with the lowest worst regret on stored results of
            networks of this kind that were initialized by `initialize_`, and says why in the notes.
        width: "mup" for the width rule of [TP5], "none" to leave width alone.
        weight_decay: Weight decay at the base, as the optimizer takes it, for all parameters; None
            for that of an optimizer instance, else 0.
        weight_decay_rule: "independent" lets the laws keep lr x weight decay where decay is
            decoupled; "fixed" keeps weight decay, but for what equals a multiplier.
        eps: Epsilon at the base; None for the optimizer's own. With Muon, AdamW's.
        aux_lr: With Muon, the learning rate tuned for the AdamW that updates all but the hidden
            matrices; refused otherwise.
        allow_recurrent: Transfer also to networks that apply a parameter again on one path, which
            the laws do not cover.
        measure: Batch and loss to measure the criterion on at both networks, which must be models
            then, initialized as they will be. The law "measured" is made from it; beside any other
            law its answer stands in the plan's notes, with a warning where they differ by more
            than a factor of two.

    Returns:
        The plan.

    Raises:
        PlanError: Different architectures, or a number that is no valid setting.
        MeasureError: The criterion cannot be measured; see `measure_update`.
        LawError: A law is unknown, or two exclude each other.
        OptimizerError: The optimizer is undeclared, or lacks a setting that was given.
        RecurrentError: A network is recurrent; the parameters are named.

    Example:
        >>> import torch
        >>> def net(depth):
        ...     layers = [torch.nn.Linear(8, 8) for _ in range(depth)]
        ...     return torch.nn.Sequential(*layers), (torch.zeros(1, 8),)
        >>> plan = plan_transfer(net(4), net(16), lr=0.8, optimizer="sgd")
        >>> round(plan.lr, 6)
        0.1

    Source: the laws name theirs.
    """
    if target is None:
        raise PlanError(
            "no target",
            "the network to be trained: a Graph, or (model, example inputs)",
            "give target=...",
        )
    fit = _fit_or_none(bases, base=base, lr=lr, law=law)
    if fit is not None:
        base, lr, law = fit.base, fit.lr, fit.law
    if base is None or lr is None:
        raise PlanError(
            f"a network given as {type(base).__name__} with lr={lr!r}, and no bases",
            "the tuned base network with its learning rate, or bases",
            "give base and lr",
        )
    kind = optimizer_kind(optimizer)
    decay = (kind.weight_decay or 0.0) if weight_decay is None else weight_decay
    _check_numbers(kind, lr=lr, weight_decay=decay, eps=eps, aux_lr=aux_lr)
    if weight_decay_rule not in ("independent", "fixed"):
        raise PlanError(
            f"weight_decay_rule={weight_decay_rule!r}", "'independent' or 'fixed'", "choose one"
        )
    networks = read_architecture(base), read_architecture(target)
    choice = _auto_or_none(law, networks[0], kind, measure)
    asked, wants_measured = split_measured(law if choice is None else choice.rule, measure)
    laws = get_laws(asked) if width == "none" else (*get_laws(asked), _width_law(width))
    get_laws(laws)

    def planned(network: Architecture, *more: Law) -> TransferPlan:
        _refuse_recurrent((networks[0], network), allow_recurrent=allow_recurrent)
        every = (*laws, *more)
        setting = _Setting(
            kind, lr, aux_lr, decay, weight_decay_rule, eps, every, networks[0], network
        )
        return setting.plan(width)

    plan = planned(networks[1])
    plan = replace(plan, notes=(*plan.notes, *_fit_notes(fit, networks[1])))
    if measure is not None:
        plan = with_measured(
            plan, planned, networks=(base, target), measure=measure, applied=wants_measured
        )
    return plan if choice is None else replace(plan, notes=(choice.why, *plan.notes))


def _fit_or_none(
    bases: Sequence[Tuned] | None, *, base: object, lr: object, law: object
) -> TunedFit | None:
    if bases is None:
        if law == "fitted":
            raise LawError(
                "law 'fitted' without bases",
                "two or more tuned networks",
                "give bases=[(network, lr), ...] in place of base, lr and law",
            )
        return None
    if base is not None or lr is not None or law not in ("effective-depth", "fitted", AUTO):
        raise PlanError(
            "bases together with base, lr or law",
            "bases alone: they are the tuned networks, and the law is fitted to them",
            "leave base, lr and law out, or bases",
        )
    return fit_tuned(bases)


def _auto_or_none(
    law: str | Law | Sequence[str | Law],
    base: Architecture,
    kind: OptimizerKind,
    measure: Measure | None,
) -> Choice | None:
    """What `law="auto"` takes; None for any other law."""
    if law not in (AUTO, [AUTO], (AUTO,)):
        return None
    measured = () if measure is None else (Measured.name,)
    choice = choose_rule(
        read_table(), network_kind(base, kind), candidates=(*CANDIDATES, *measured)
    )
    return replace(choice, rule=Measured.name) if choice.rule in measured else choice


def _fit_notes(fit: TunedFit | None, target: Architecture) -> list[str]:
    if fit is None:
        return []
    depth = target.report.effective_depth
    low, high = fit.posterior.interval(depth)
    return [
        f"fitted: exponent {fit.law.exponent:.3f} +- {fit.law.exponent_sd:.3f}; at depth {depth} "
        f"lr {fit.posterior.predict(depth):.4g}, 95% predictive interval {low:.4g} to {high:.4g}, "
        "before the width rule"
    ]


def _width_law(width: str) -> Law:
    if width != "mup":
        raise LawError(f"width={width!r}", "'mup' or 'none'", "choose one of the two")
    return Width()


def _check_numbers(
    kind: OptimizerKind, *, lr: float, weight_decay: float, eps: float | None, aux_lr: float | None
) -> None:
    _require("lr", lr, above_zero=True)
    _require("weight_decay", weight_decay, above_zero=False)
    if eps is not None:
        _require("eps", eps, above_zero=False)
        if kind.eps is None:
            raise OptimizerError(
                f"eps={eps} for {kind.name}", f"no eps: {kind.name} has none", "leave eps out"
            )
    if weight_decay and kind.weight_decay is None:
        raise OptimizerError(
            f"weight_decay={weight_decay} for {kind.name}",
            f"no weight decay: {kind.name} takes none",
            "leave weight_decay out",
        )
    if (aux_lr is not None) != (kind.update == "muon"):
        raise OptimizerError(
            f"aux_lr={aux_lr} for {kind.name}",
            "aux_lr with muon, and with muon alone",
            "with muon, give the learning rate of the AdamW for embeddings, biases and readout",
        )
    if aux_lr is not None:
        _require("aux_lr", aux_lr, above_zero=True)


def _require(name: str, value: object, *, above_zero: bool) -> None:
    number = float(value) if isinstance(value, (int, float)) else math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        number = math.nan
    if math.isnan(number) or (above_zero and number == 0):
        raise PlanError(
            f"{name}={value!r}",
            f"a finite number {'above zero' if above_zero else 'of at least zero'}",
            f"give the {name} that was tuned at the base",
        )


def _refuse_recurrent(networks: Sequence[Architecture], *, allow_recurrent: bool) -> None:
    names = dict.fromkeys(name for network in networks for name in network.report.recurrent)
    if names and not allow_recurrent:
        raise RecurrentError(
            f"a recurrent network; applied again on one path: {', '.join(names)}",
            "a network whose layers each have parameters of their own",
            "tune the target itself, or insist with allow_recurrent=True",
        )


def _notes(networks: Sequence[Architecture], pairs: Sequence[ParamPair], width: str) -> list[str]:
    tied = networks[1].report.tied if width != "none" else ()
    notes = [
        f"{pair.target.name} is embedding and readout in one: treated as an embedding, the "
        "readout's multiplier over width cannot be applied"
        for pair in pairs
        if pair.target.name in tied and pair.units_ratio != 1
    ]
    names = dict.fromkeys(name for network in networks for name in network.report.recurrent)
    if names:
        notes.append(f"recurrent, not covered by the laws: {', '.join(names)}")
    return notes


@dataclass(frozen=True)
class _Setting:
    """Everything that is the same for all parameters of a plan."""

    optimizer: OptimizerKind
    lr: float
    aux_lr: float | None
    weight_decay: float
    weight_decay_rule: WeightDecayRule
    eps: float | None
    laws: tuple[Law, ...]
    base: Architecture
    target: Architecture

    def plan(self, width: str) -> TransferPlan:
        """The plan for all parameters."""
        networks = self.base, self.target
        pairs = match_parameters(self.base.parameters, self.target.parameters)
        for law in self.laws:
            law.check(pairs)
        return TransferPlan(
            laws=tuple(LawRecord(law.name, tuple(law.options.items())) for law in self.laws),
            optimizer=self.optimizer,
            base_lr=float(self.lr),
            aux_lr=self.aux_lr,
            weight_decay=float(self.weight_decay),
            eps=self.eps,
            base_depth=self.base.report.effective_depth,
            target_depth=self.target.report.effective_depth,
            parameters=tuple(self.entry(pair) for pair in pairs),
            notes=tuple(_notes(networks, pairs, width)),
        )

    def entry(self, pair: ParamPair) -> ParamPlan:
        """The plan's entry for one parameter."""
        kind = self.optimizer.for_parameter(pair.target)
        by_law = tuple((law.name, self._factors(law, pair, kind)) for law in self.laws)
        total = reduce(mul, (factors for _, factors in by_law), Factors())
        auxiliary = kind.name != self.optimizer.name
        rate = self.aux_lr if auxiliary and self.aux_lr is not None else self.lr
        own_eps = kind.eps if self.eps is None or kind.update == "muon" else self.eps
        info = pair.target
        return ParamPlan(
            name=info.name,
            shape=info.shape,
            role=info.role,
            optimizer=kind.name,
            lr=rate * total.lr,
            weight_decay=self.weight_decay * total.weight_decay,
            eps=None if own_eps is None else own_eps * total.eps,
            init=total.init,
            factors=by_law,
            aliases=info.aliases,
        )

    def _factors(self, law: Law, pair: ParamPair, kind: OptimizerKind) -> Factors:
        factors = law.factors(pair, base=self.base, target=self.target, optimizer=kind)
        if self.weight_decay_rule == "fixed":
            factors = replace(factors, weight_decay=1.0)
        return fold_multiplier(factors, optimizer=kind)
