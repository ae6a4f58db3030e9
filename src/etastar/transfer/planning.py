"""From what was tuned, a target and laws to a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Final, Literal

from torch.optim import Optimizer

from etastar.errors import LawError, PlanError, RecurrentError
from etastar.formatting import number
from etastar.graph.capture import graph_of
from etastar.laws import (
    Architecture,
    Evidence,
    Factors,
    Training,
    TransferCase,
    TunedPoint,
    UnboundLaw,
    Width,
    fold_multiplier,
    get_laws,
    residual_rule,
)
from etastar.optimizers import optimizer_kind
from etastar.transfer.auto import NAMED_LAWS
from etastar.transfer.base_settings import DecayAtBase, agreed_settings
from etastar.transfer.correspondence import match_parameters
from etastar.transfer.measured_law import Measure, mean_squares, warn_of_difference
from etastar.transfer.plan import TransferPlan
from etastar.transfer.plan_record import BaseRecord, InitializationRecord, LawRecord, ParamPlan
from etastar.transfer.tuned import Target, Tuned, read_architecture, read_tuned
from etastar.typed import require_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from etastar.graph.capture import NetworkLike
    from etastar.laws import Law, MeanSquares, ParamPair, Reads
    from etastar.optimizers import OptimizerKind, OptimizerLike

__all__ = ["DEFAULT_LAW", "WidthRule", "plan_transfer"]

WidthRule = Literal["mup", "none"]

DEFAULT_LAW: Final = "effective-depth"
"""What one tuned network is carried by, where no law is named."""
_DEFAULT_OF_SEVERAL: Final = "fitted"


def plan_transfer(
    base: Tuned | Sequence[Tuned],
    target: Target | NetworkLike | Architecture,
    *,
    optimizer: OptimizerLike,
    law: str | Law | Sequence[str | Law] | None = None,
    width: WidthRule = "mup",
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
        optimizer: "sgd", "adam", "adamw", "muon", one of these torch optimizers, or what
            `optimizer_like` returned. An instance brings its settings, and must agree with those of
            `base`; groups of it may differ in weight decay. Momentum is the caller's own and stays.
        law: One depth law or several, by name or instance; their factors multiply. None for
            "effective-depth", with several tuned networks for "fitted". "measured" needs `measure`.
            "auto" takes the law with the lowest worst regret on stored results of networks of this
            kind that were initialized by `initialize_`, and says why in the notes.
        width: "mup" for the width rule of [TP5], "none" to leave width alone.
        allow_recurrent: Transfer also to networks that apply a parameter again on one path, which
            the laws do not cover.
        measure: Batch and loss to measure the criterion on at both networks, which must be models
            then, initialized as they will be. The law "measured" is made from it; beside any other
            law its answer stands in the plan's notes, with a warning where they differ by more
            than a factor of two.

    Returns:
        The plan.

    Raises:
        PlanError: Different architectures, or a number that is no valid setting, or a plan whose
            numbers no optimizer can use.
        CaptureError: A network is none, or does not run.
        MeasureError: The criterion cannot be measured; see `measure_update`.
        LawError: A law is unknown, or two exclude each other.
        OptimizerError: The optimizer is undeclared, lacks a setting that was given, or has another.
        RecurrentError: A network is recurrent; the parameters are named.

    Example:
        >>> import torch
        >>> def net(depth):
        ...     layers = [torch.nn.Linear(8, 8) for _ in range(depth)]
        ...     return torch.nn.Sequential(*layers), torch.zeros(1, 8)
        >>> plan = plan_transfer(Tuned(net(4), 0.8), net(16), optimizer="sgd")
        >>> round(plan.lr, 6)
        0.1

    Source: the laws name theirs.
    """
    if measure is not None and not isinstance(measure, Measure):
        raise PlanError(
            f"measure={measure!r}", "Measure(batch, loss_fn), or None", "wrap the batch in Measure"
        )
    tuned = read_tuned(base)
    asked = _asked_laws(law, width, several=len(tuned) > 1)
    kind = optimizer_kind(optimizer)
    goal = target if isinstance(target, Target) else Target(target)
    start, ours = tuned[-1]
    settings, decay = agreed_settings(
        start, ours, kind, optimizer if isinstance(optimizer, Optimizer) else None, goal
    )
    planner = _Planner(kind, settings, decay, ours, allow_recurrent)
    networks = (start.network, goal.network)
    graph = None if isinstance(goal.network, Architecture) else graph_of(goal.network)
    theirs = read_architecture(
        graph or goal.network, training=Training(goal.batch_size, goal.num_steps)
    )

    def measured(laws: tuple[Law, ...]) -> MeanSquares:
        assert measure is not None
        return mean_squares(
            networks, measure, lambda network: planner.plan(read_architecture(network), laws)
        )

    evidence = Evidence(
        points=tuple(TunedPoint(network, one.lr, one.log_lr_sd) for one, network in tuned),
        target=theirs,
        optimizer=kind,
        measure=None if measure is None else measured,
    )
    laws, reasons, read = _bind(asked, evidence)
    plan = planner.plan(theirs, laws)
    notes = [*reasons, *plan.notes, *_unread(tuned, goal, read)]
    if measure is not None and "criterion" not in read:
        notes.append(warn_of_difference(measured(laws), law=plan.law))
    return replace(plan, notes=tuple(notes), graph=graph)


def _asked_laws(
    law: str | Law | Sequence[str | Law] | None, width: str, *, several: bool
) -> tuple[Law, ...]:
    """The laws that were asked for and the width rule; those that measure come last."""
    if law is None:
        law = _DEFAULT_OF_SEVERAL if several else DEFAULT_LAW
    require_type("width", width, WidthRule, error=LawError)
    laws = get_laws(law, known=NAMED_LAWS)
    return get_laws((*laws, Width()) if width == "mup" else laws, known=NAMED_LAWS)


def _bind(
    laws: Sequence[Law], evidence: Evidence
) -> tuple[tuple[Law, ...], tuple[str, ...], frozenset[Reads]]:
    """Laws that need no evidence any more, why they are these, and what evidence they read."""
    waiting = list(laws)
    bound: list[Law] = []
    reasons: list[str] = []
    read: frozenset[Reads] = frozenset()
    while waiting:
        # what is measured comes last, with all others in force
        waiting.sort(key=lambda law: isinstance(law, UnboundLaw) and "criterion" in law.reads)
        law = waiting.pop(0)
        if not isinstance(law, UnboundLaw):
            bound.append(law)
            continue
        read |= law.reads
        found, why = law.bind(replace(evidence, laws=tuple(bound)))
        waiting.insert(0, found)
        reasons.append(why)
    return tuple(bound), tuple(reasons), read


def _unread(
    tuned: Sequence[tuple[Tuned, Architecture]], goal: Target, read: frozenset[Reads]
) -> list[str]:
    """What was given and is not used by any law of the plan."""
    start, network = tuned[-1]
    notes = []
    if len(tuned) > 1 and "points" not in read:
        notes.append(
            f"{len(tuned)} tuned networks: the law starts from the deepest, effective depth "
            f"{network.report.effective_depth} with lr {number(start.lr)}; the others are not used"
        )
    for name, words in (("batch_size", "batch size"), ("num_steps", "steps")):
        ours, theirs = getattr(goal, name), getattr(start, name)
        if ours is not None and theirs is not None and ours != theirs:
            notes.append(f"{words} {theirs} to {ours}: no law of this plan corrects for it")
    return notes


@dataclass(frozen=True)
class _Planner:
    """Everything that is the same for all parameters of a plan, and for all its networks."""

    optimizer: OptimizerKind
    tuned: BaseRecord
    decay: DecayAtBase
    base: Architecture
    allow_recurrent: bool

    def plan(self, target: Architecture, laws: tuple[Law, ...]) -> TransferPlan:
        """The plan of a target under laws."""
        recurrent = dict.fromkeys([*self.base.report.recurrent, *target.report.recurrent])
        if recurrent and not self.allow_recurrent:
            raise RecurrentError(
                f"a recurrent network; applied again on one path: {', '.join(recurrent)}",
                "a network whose layers each have parameters of their own",
                "tune the target itself, or insist with allow_recurrent=True",
            )
        for name, layers in {**self.base.report.stacked, **target.report.stacked}.items():
            raise PlanError(
                f"{name}, which holds the weights of {layers} layers in one tensor",
                "a parameter for every layer: a plan gives each a rate and an initialization",
                "keep the layers' weights in an nn.ParameterList, or a module each",
            )
        pairs = match_parameters(self.base.parameters, target.parameters)
        for law in laws:
            law.check(pairs)
        parameters = tuple(self.entry(pair, target, laws) for pair in pairs)
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
            notes=tuple(_notes(pairs, target.report.tied if Width() in laws else (), recurrent)),
            initialization=InitializationRecord(residual_rule(laws)),
        )

    def entry(self, pair: ParamPair, target: Architecture, laws: Sequence[Law]) -> ParamPlan:
        """The plan's entry for one parameter."""
        kind = self.optimizer.for_parameter(pair.target)
        case = TransferCase(self.base, target, kind)
        by_law = tuple(
            (law.name, fold_multiplier(law.factors(pair, case), optimizer=kind)) for law in laws
        )
        total = reduce(mul, (factors for _, factors in by_law), Factors())
        auxiliary = kind.name != self.optimizer.name
        rate = self.tuned.aux_lr if auxiliary and self.tuned.aux_lr is not None else self.tuned.lr
        eps, betas = self._own(kind)
        info = pair.target
        return ParamPlan(
            name=info.name,
            shape=info.shape,
            role=info.role,
            optimizer=kind.name,
            lr=rate * total.lr,
            weight_decay=self.decay.of(pair) * total.weight_decay,
            eps=None if eps is None else eps * total.eps,
            init=total.init,
            factors=by_law,
            aliases=info.aliases,
            betas=None if betas is None else _scaled_betas(betas, total.betas),
        )

    def _own(self, kind: OptimizerKind) -> tuple[float | None, tuple[float, float] | None]:
        """Epsilon and betas at the base: what the caller gave, where this kind takes it."""
        eps = kind.eps if self.tuned.eps is None or kind.update == "muon" else self.tuned.eps
        given = self.tuned.betas is not None and kind.betas is not None
        return eps, self.tuned.betas if given else kind.betas


def _scaled_betas(betas: tuple[float, float], factors: tuple[float, float]) -> tuple[float, float]:
    """Betas whose distances from 1 are multiplied; exactly as they were by a factor of 1."""
    first, second = (
        beta if factor == 1 else 1 - (1 - beta) * factor
        for beta, factor in zip(betas, factors, strict=True)
    )
    return first, second


def _notes(
    pairs: Sequence[ParamPair], tied: Sequence[str], recurrent: Iterable[str]
) -> Iterator[str]:
    for pair in pairs:
        if pair.target.name in tied and pair.units_ratio != 1:
            yield (
                f"{pair.target.name} is embedding and readout in one: treated as an embedding, the "
                "readout's multiplier over width cannot be applied"
            )
    if recurrent:
        yield f"recurrent, not covered by the laws: {', '.join(recurrent)}"
