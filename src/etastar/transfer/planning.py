"""From what was tuned, a target and laws to a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import mul
from typing import Any, Final, Literal, cast

from torch.optim import Optimizer

from etastar.applied import recall
from etastar.errors import LawError, PlanError, RecurrentError
from etastar.graph.capture import NetworkLike, graph_of
from etastar.laws import (
    Architecture,
    Bound,
    Evidence,
    Factors,
    Law,
    Measured,
    ParamPair,
    ScaledWeights,
    Training,
    TransferCase,
    TunedPoint,
    UnboundLaw,
    Width,
    fold_multiplier,
    get_laws,
    residual_rule,
)
from etastar.optimizers import OptimizerKind, OptimizerLike
from etastar.optimizers.reading import optimizer_kind
from etastar.transfer.cautions import Initial, cautions
from etastar.transfer.correspondence import match_parameters
from etastar.transfer.default_choice import NAMED_LAWS, DefaultChoice
from etastar.transfer.found_weights import found_weights, model_of, powers_of_branches
from etastar.transfer.measured_law import Measure, measured_law, warn_of_difference
from etastar.transfer.plan import TransferPlan
from etastar.transfer.plan_notes import decay_notes, notes_on_multipliers, notes_on_ties, unread
from etastar.transfer.plan_record import BaseRecord, InitializationRecord, LawRecord, ParamPlan
from etastar.transfer.tuned import (
    DecayAtBase,
    Target,
    Tuned,
    agreed_settings,
    read_architecture,
    read_tuned,
)
from etastar.typed import require_type

WidthRule = Literal["mup", "none"]  # or options, as `Width(embedding="large-vocabulary")`

InitRule = Literal["any", "keep", "stabilized"]
"""What a law may do with initial weights, and whether the base had those of `initialize_`."""

DEFAULT_LAW: Final = DefaultChoice.name
"""What a rate is carried by, where no law is named."""


def plan_transfer(
    base: Tuned | Sequence[Tuned],
    target: Target | NetworkLike,
    *,
    optimizer: OptimizerLike,
    law: str | Law | Sequence[str | Law] = DEFAULT_LAW,
    init: InitRule = "any",
    width: WidthRule | Width = "mup",
    allow_recurrent: bool = False,
    measure: Measure | None = None,
) -> TransferPlan:
    """Carry a learning rate tuned at the base to every parameter of the target.

    lr(parameter) = lr x product of the laws' factors and the width rule's; likewise weight decay,
    epsilon and the factor on the initialization. At the base size every factor is 1.

    Args:
        base: What was tuned: `Tuned(network, lr)`, or several, of which the plan starts from the
            deepest.
        target: Network to be trained: a `Graph` or (model, example inputs), or `Target(network)`.
        optimizer: A name of `etastar.optimizers.OPTIMIZERS`, one of these classes, or what
            `optimizer_like` returned. An instance brings its settings, and must agree with those of
            `base`; groups of it may differ in weight decay. Momentum is the caller's own and stays.
        law: One depth law or several, by name or instance; their factors multiply. "auto" takes the
            one whose rate at the target is known best from families of this kind and what is given
            here: `plan.why` says why, `plan.lr_interval` how well. "fitted" is the power law
            through several tuned networks; "measured" needs `measure`.
        init: "any"; "keep" for laws that leave the target's initial weights as they are;
            "stabilized" where the base was tuned with `initialize_`'s, 1/K on every branch weight,
            in another process: what this one did to a model is known.
        width: "mup" for the width rule of [TP5], "none" to leave width alone; or the rule with
            options, as `Width(embedding="large-vocabulary")`.
        allow_recurrent: Transfer also to networks that apply a parameter again on one path, which
            the laws do not cover.
        measure: Batch and loss to measure the criterion on at both networks, which must be models
            then, initialized as they will be. "measured" is made from it, and "auto" reads it;
            beside any other law its answer stands in the plan's notes, with a warning where they
            differ by more than a factor of two.

    Returns:
        The plan.

    Raises:
        PlanError: Different architectures, or a number that is no valid setting, or a plan whose
            numbers no optimizer can use.
        CaptureError: A network is none, or does not run.
        MeasureError: The criterion cannot be measured; see `measure_update`.
        LawError: A law is unknown, two exclude each other, or one does what `init` excludes.
        OptimizerError: The optimizer is undeclared, lacks a setting that was given, or has another.
        RecurrentError: A network is recurrent; the parameters are named.

    Example:
        >>> import torch
        >>> def net(depth):
        ...     layers = [torch.nn.Linear(8, 8) for _ in range(depth)]
        ...     return torch.nn.Sequential(*layers), torch.zeros(1, 8)
        >>> plan = plan_transfer(Tuned(net(4), 0.8), net(16), optimizer="sgd")
        >>> plan.lr_interval[0] < plan.lr < plan.lr_interval[1]
        True
        >>> tuned = Tuned(net(4), 0.8)
        >>> round(plan_transfer(tuned, net(16), optimizer="sgd", law="effective-depth").lr, 6)
        0.1

    Source: the laws name theirs.
    """
    if measure is not None and not isinstance(measure, Measure):
        raise PlanError(
            f"measure={measure!r}", "Measure(batch, loss_fn), or None", "wrap the batch in Measure"
        )
    tuned = read_tuned(base)
    asked = _asked_laws(law, width, init)
    kind = optimizer_kind(optimizer)
    goal = target if isinstance(target, Target) else Target(target)
    start, ours = tuned[-1]
    settings, decay = agreed_settings(
        start, ours, kind, optimizer if isinstance(optimizer, Optimizer) else None, goal
    )
    planner = _Planner(kind, settings, decay, ours, allow_recurrent, goal.eps)
    networks = (start.network, goal.network)
    graph = graph_of(goal.network)
    theirs = read_architecture(graph, training=Training(goal.batch_size, goal.num_steps))

    pairs = match_parameters(ours.parameters, theirs.parameters)

    def measured(laws: tuple[Law, ...]) -> tuple[Measured, str]:
        assert measure is not None
        at_target = planner.plan(replace(theirs, training=Training()), laws, pairs)
        return measured_law(networks, (planner.plan(ours, laws), at_target), measure)

    found = found_weights(*networks, pairs)
    evidence = Evidence(
        points=tuple(TunedPoint(network, one.lr, one.log_lr_sd) for one, network in tuned),
        target=theirs,
        pairs=pairs,
        optimizer=kind,
        initialized="all" if init == "stabilized" else _initialized(start.network),
        keep=init == "keep",
        measure=None if measure is None else measured,
        powers=powers_of_branches(found),
    )
    laws, bounds = _bind(asked, evidence)
    plan = planner.plan(theirs, laws, pairs)
    if init == "keep":
        _require_kept(plan)
    chosen = next((bound.residual for bound in bounds if bound.residual is not None), None)
    at_home = InitializationRecord(chosen) if chosen else plan.initialization
    residual = "own" if init == "keep" else at_home.residual
    case = TransferCase(ours, theirs, replace(kind, betas=settings.betas or kind.betas))
    read = frozenset().union(*(bound.read for bound in bounds))
    notes = [
        *(bound.note for bound in bounds if bound.note),
        *plan.notes,
        *unread(tuned, theirs, read, laws),
        *dict.fromkeys((*ours.report.notes, *theirs.report.notes)),
        *(note for law in laws for note in law.notes(case)),
        *cautions(case, laws=laws, initial=Initial(networks, found, graph, residual)),
    ]
    if measure is not None and "criterion" not in read:
        notes.append(warn_of_difference(*measured(laws), followed=plan.law))
    reach = bounds[0].log_reach if len(bounds) == 1 else None
    return replace(
        plan,
        notes=tuple(notes),
        initialization=at_home,
        lr_interval=None
        if reach is None
        else (plan.lr * math.exp(-reach), plan.lr * math.exp(reach)),
        why=" ".join(bound.why for bound in bounds if bound.why),
        graph=graph,
        prior=next((bound.prior for bound in bounds if bound.prior is not None), None),
    )


def _asked_laws(
    law: str | Law | Sequence[str | Law], width: str | Width, init: str
) -> tuple[Law, ...]:
    """The laws that were asked for and the width rule; those that measure come last."""
    if not isinstance(width, Width):
        require_type("width", width, WidthRule, error=LawError)
    require_type("init", init, InitRule, error=LawError)
    laws = get_laws(law, known=NAMED_LAWS)
    if init == "stabilized" and residual_rule(laws) == "none":
        raise LawError(
            f"init='stabilized' for the law {laws[0].name!r}",
            "a law that scales no branches: 1/K stands on them already",
            "take law='auto', or tune the base with an initialization without 1/K",
        )
    rules = {"mup": (Width(),), "none": ()}
    over_width = (width,) if isinstance(width, Width) else rules[width]
    return get_laws((*laws, *over_width), known=NAMED_LAWS)


def _initialized(network: object) -> ScaledWeights | None:
    """What `initialize_` gave the branches of a network in this process."""
    model = model_of(network)
    known = None if model is None else recall(model)
    return None if known is None else cast("ScaledWeights | None", known.residual)


def _require_kept(plan: TransferPlan) -> None:
    """Refuse a plan that multiplies initial weights."""
    if changed := [entry for entry in plan.parameters if entry.init != 1]:
        names = dict.fromkeys(
            name for entry in changed for name, own in entry.factors if own.init != 1
        )
        raise LawError(
            f"init='keep' for {' x '.join(names)}, which multiplies the initial values of "
            f"{len(changed)} parameters ({changed[0].name!r} x {changed[0].init:.3g}, ...)",
            "laws that leave the weights alone, and width='none' where the width changes",
            "name another law or width='none', or leave init out and call plan.rescale_(model)",
        )


def _bind(laws: Sequence[Law], evidence: Evidence) -> tuple[tuple[Law, ...], tuple[Bound, ...]]:
    """Laws that need no evidence any more, and what they were made from."""
    bounds: dict[str, Bound] = {}
    in_force = tuple(law for law in laws if not isinstance(law, UnboundLaw))
    unbound = (law for law in laws if isinstance(law, UnboundLaw))
    # what may be measured is bound last, with all others in force
    for law in sorted(unbound, key=lambda law: "criterion" in law.reads):
        bounds[law.name] = law.bind(replace(evidence, laws=in_force))
        in_force += bounds[law.name].laws
    every = (
        one
        for asked in laws
        for one in (bounds[asked.name].laws if asked.name in bounds else (asked,))
    )
    return tuple(sorted(every, key=lambda law: isinstance(law, Measured))), tuple(bounds.values())


@dataclass(frozen=True)
class _Planner:
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
