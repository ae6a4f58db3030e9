"""The law `measured`: the criterion at base and target, with a plan as it will be used."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

from etastar.errors import LawError, PlanError
from etastar.formatting import number, short_repr
from etastar.laws import Bound, Evidence, Measured, Reads, UnboundLaw
from etastar.measure import UpdateReport, measure_update
from etastar.measure.batch import Batch, LossFn
from etastar.measure.seeds import SeedChoice
from etastar.optimizers import OPTIMIZERS
from etastar.optimizers.reading import optimizer_class
from etastar.transfer.found_weights import model_of
from etastar.transfer.plan import TransferPlan

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


_WORTH_A_WARNING = 2.0


@dataclass(frozen=True)
class Measure:
    """What `plan_transfer` needs in order to measure the criterion at base and target.

    Attributes:
        batch: What the gradient is taken on at both sizes, as `measure_update` takes it.
        loss_fn: `loss_fn(output, targets)`; None for a model that computes its own loss.
        draw: Draws the weights of a copy anew, in place, from the global random numbers, as they
            were drawn at first: `lambda model: model.apply(init_weights)`. None to measure the
            weights as they are, a single draw: in a deep narrow network eta* of two draws may
            differ by a factor of two.
        seeds: Of `draw`, as `measure_update` takes them; None for as many as it takes.
        options: Further keyword arguments of `measure_update`. Of the residual stream at
            initialization, if nothing else is said: of nine forms it had the lowest mean regret at
            four and eight times the depth (benchmarks/results/criterion_regret.md).
    """

    batch: Batch
    loss_fn: LossFn | None = None
    draw: Callable[[nn.Module], object] | None = None
    seeds: SeedChoice = None
    options: Mapping[str, Any] = field(default_factory=dict)
    __repr__ = short_repr


@final
@dataclass(frozen=True)
class Criterion(UnboundLaw):
    """The learning rate keeps the measured mean-square update; needs `measure`.

    Example:
        >>> Criterion().name
        'measured'
    """

    name: ClassVar[str] = Measured.name
    reads: ClassVar[frozenset[Reads]] = frozenset({"criterion"})

    def bind(self, evidence: Evidence) -> Bound:
        """See `UnboundLaw.bind`: the law with both networks measured, the other laws in force."""
        if evidence.measure is None:
            raise LawError(
                "law 'measured' without measure",
                "measure=Measure(batch, loss_fn)",
                "give the batch and the loss on which to measure both networks",
            )
        law, said = evidence.measure(evidence.laws)
        return Bound((law,), self.reads, note=_criterion_note(law, said, verb="has"))


def _criterion_note(law: Measured, said: str, *, verb: str) -> str:
    """What was measured, in words, and whether the plan follows it."""
    at_base, at_target = law.base**-0.5, law.target**-0.5
    return (
        f"measured: eta* {number(at_base)} at the base, {number(at_target)} at the target; the "
        f"criterion {verb} the rates of the other laws times {at_target / at_base:.3g}{said}"
    )


def warn_of_difference(law: Measured, said: str, *, followed: str) -> str:
    """The note of a plan that follows another law; a warning where the criterion differs."""
    note = _criterion_note(law, said, verb="would have")
    if not 1 / _WORTH_A_WARNING <= law.factor <= _WORTH_A_WARNING:
        warnings.warn(f"{followed}: {note}", stacklevel=3)
    return note


def measured_law(
    networks: Sequence[object], plans: Sequence[TransferPlan], measure: Measure
) -> tuple[Measured, str]:
    """The criterion at base and target, copies of them, each with its plan as it will be used.

    And how far it is to be trusted, in words.
    """
    models = [_model(*one) for one in zip(networks, ("base", "target"), strict=True)]
    base, target = (_report(*one, measure) for one in zip(models, plans, strict=True))
    law = Measured(base.typical_mean_square, target.typical_mean_square)
    return law, _seeds_note(base, target)


def _model(network: object, place: str) -> nn.Module:
    model = model_of(network)
    if model is None:
        raise PlanError(
            f"a {place} given as {type(network).__name__}, to be measured",
            "(model, example inputs): the criterion takes a real step",
            "give the model itself, or leave measure out",
        )
    return model


def _seeds_note(base: UpdateReport, target: UpdateReport) -> str:
    """How far the factor may be off, from the intervals of both."""
    if base.typical_interval is None or target.typical_interval is None:
        return "; of one draw of the weights (Measure(draw=...) takes more)"
    ends = (base.typical_interval, target.typical_interval)
    width = math.hypot(*(math.log(high / low) / 4 for low, high in ends))
    return (
        f" (within {math.exp(width):.3g}x either way; {len(base.seeds)} draws of the base, "
        f"{len(target.seeds)} of the target)"
    )


def _report(model: nn.Module, plan: TransferPlan, measure: Measure) -> UpdateReport:
    def made() -> nn.Module:
        private = copy.deepcopy(model)
        if measure.draw is not None:
            measure.draw(private)
        plan.rescale_(private)
        return private

    return measure_update(
        made() if measure.draw is None else made,
        measure.batch,
        measure.loss_fn,
        optimizer=lambda network: _optimizers(plan, network),
        **{"seeds": measure.seeds, **measure.options, "lr_unit": plan.base.lr},
    )


def _optimizers(plan: TransferPlan, model: nn.Module) -> tuple[Optimizer, ...]:
    """Both of a plan for Muon, else the one, with PyTorch's settings but for the groups' own."""
    made: list[Optimizer] = []
    for name in dict.fromkeys(entry.optimizer for entry in plan.parameters):
        kind = plan.optimizer if name == plan.optimizer.name else OPTIMIZERS[name]
        cls: Any = optimizer_class(kind)
        groups = plan.param_groups(model, kind=None if plan.optimizer.fallback is None else name)
        made.append(cls(groups))
        getattr(made[-1], "train", bool)()  # schedule-free ones of `schedulefree` ask for it
    return tuple(made)
