"""From what was tuned, a target and laws to a plan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from torch.optim import Optimizer

from etastar.applied import recall
from etastar.errors import LawError, PlanError
from etastar.graph import Graph
from etastar.graph.capture import NetworkLike, graph_of
from etastar.laws import (
    Architecture,
    Bound,
    Evidence,
    Law,
    Measured,
    ParamPair,
    ScaledWeights,
    Training,
    TransferCase,
    TunedPoint,
    UnboundLaw,
    Width,
    get_laws,
    residual_rule,
)
from etastar.optimizers import OptimizerLike
from etastar.optimizers.reading import optimizer_kind
from etastar.transfer.cautions import Initial, cautions
from etastar.transfer.correspondence import match_parameters
from etastar.transfer.default_choice import NAMED_LAWS, DefaultChoice
from etastar.transfer.found_weights import (
    FoundWeights,
    found_weights,
    model_of,
    powers_of_branches,
)
from etastar.transfer.measured_law import Measure, measured_law, warn_of_difference
from etastar.transfer.plan import TransferPlan
from etastar.transfer.plan_notes import notes_on_cap, unread
from etastar.transfer.plan_record import InitializationRecord
from etastar.transfer.planner import Planner
from etastar.transfer.tuned import (
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
    asked = _asked_laws(law, width, init)
    given = optimizer if isinstance(optimizer, Optimizer) else None
    goal = target if isinstance(target, Target) else Target(target)
    tuned, kind = read_tuned(base), optimizer_kind(optimizer)
    start, ours = tuned[-1]
    settings, decay = agreed_settings(start, ours, kind, given, goal)
    planner = Planner(kind, settings, decay, ours, allow_recurrent, goal.eps)
    graph = graph_of(goal.network)
    theirs = read_architecture(graph, training=Training(goal.batch_size, goal.num_steps))
    pairs = match_parameters(ours.parameters, theirs.parameters)
    found = found_weights(start.network, goal.network, pairs)
    case = _Case(tuned, goal, graph, theirs, pairs, found, planner, measure, init)
    laws, bounds = _bind(asked, case.evidence())
    plan = planner.plan(theirs, laws, pairs)
    if init == "keep":
        _require_kept(plan)
    return _with_reasons(plan, case, laws, bounds)


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


@dataclass(frozen=True)
class _Case:
    """Base and target, both read, and what was said of them."""

    tuned: Sequence[tuple[Tuned, Architecture]]
    goal: Target
    graph: Graph
    target: Architecture
    pairs: tuple[ParamPair, ...]
    found: tuple[FoundWeights, ...]
    planner: Planner
    measure: Measure | None
    init: InitRule

    @property
    def networks(self) -> tuple[NetworkLike, NetworkLike]:
        """Base and target, as they were given."""
        return self.tuned[-1][0].network, self.goal.network

    def evidence(self) -> Evidence:
        """What laws are made from."""
        return Evidence(
            points=tuple(TunedPoint(network, one.lr, one.log_lr_sd) for one, network in self.tuned),
            target=self.target,
            pairs=self.pairs,
            optimizer=self.planner.optimizer,
            initialized="all" if self.init == "stabilized" else _initialized(self.networks[0]),
            keep=self.init == "keep",
            measure=None if self.measure is None else self.measured,
            powers=powers_of_branches(self.found),
        )

    def measured(self, laws: tuple[Law, ...]) -> tuple[Measured, str]:
        """The criterion at both networks with laws in force, and what to know of it."""
        assert self.measure is not None
        at_target = replace(self.target, training=Training())
        plans = (
            self.planner.plan(self.planner.base, laws),
            self.planner.plan(at_target, laws, self.pairs),
        )
        return measured_law(self.networks, plans, self.measure)


def _with_reasons(
    plan: TransferPlan, case: _Case, laws: tuple[Law, ...], bounds: Sequence[Bound]
) -> TransferPlan:
    """The plan with its interval, why its laws were taken, and what to know of them."""
    chosen = next((bound.residual for bound in bounds if bound.residual is not None), None)
    at_home = InitializationRecord(chosen) if chosen else plan.initialization
    reach = bounds[0].log_reach if len(bounds) == 1 else None
    return replace(
        plan,
        notes=(*_notes(plan, case, laws, bounds, at_home),),
        initialization=at_home,
        lr_interval=None
        if reach is None
        else (plan.lr * math.exp(-reach), plan.lr * math.exp(reach)),
        why=" ".join(bound.why for bound in bounds if bound.why),
        graph=case.graph,
        prior=next((bound.prior for bound in bounds if bound.prior is not None), None),
    )


def _notes(
    plan: TransferPlan,
    case: _Case,
    laws: tuple[Law, ...],
    bounds: Sequence[Bound],
    at_home: InitializationRecord,
) -> Iterator[str]:
    """What laws, plan, networks and the measurement say beside the numbers, in this order."""
    planner, base, target = case.planner, case.planner.base, case.target
    betas = planner.tuned.betas or planner.optimizer.betas
    transfer = TransferCase(base, target, replace(planner.optimizer, betas=betas))
    read = frozenset().union(*(bound.read for bound in bounds))
    residual = "own" if case.init == "keep" else at_home.residual
    yield from (bound.note for bound in bounds if bound.note)
    yield from plan.notes
    yield from notes_on_cap(planner.optimizer, plan.parameters, case.goal.num_steps)
    yield from unread(case.tuned, target, read, laws)
    yield from dict.fromkeys((*base.report.notes, *target.report.notes))
    yield from (note for law in laws for note in law.notes(transfer))
    initial = Initial(case.networks, case.found, case.graph, residual)
    yield from cautions(transfer, laws=laws, initial=initial)
    if case.measure is not None and "criterion" not in read:
        yield warn_of_difference(*case.measured(laws), followed=plan.law)


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
