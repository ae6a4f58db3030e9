"""The criterion at base and target, with a plan as it will be used."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from etastar.errors import LawError, OptimizerError, PlanError
from etastar.laws import Law, Measured
from etastar.measure import measure_update
from etastar.transfer.architecture import read_architecture

if TYPE_CHECKING:
    from etastar.measure.batch import Batch, LossFn
    from etastar.transfer.architecture import Network
    from etastar.transfer.plan import TransferPlan

__all__ = ["Measure", "split_measured", "with_measured"]

MakeOptimizer: TypeAlias = Callable[[list[dict[str, Any]]], Optimizer]

_CLASSES: Final[Mapping[str, type[Optimizer]]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "muon": torch.optim.Muon,
}
_WORTH_A_WARNING = 2.0
_WIDTH_DROPS_OUT = 1.25  # largest ratio of eta* at two widths; intervals over seeds are as wide


@dataclass(frozen=True)
class Measure:
    """What `plan_transfer` needs in order to measure the criterion at base and target.

    Attributes:
        batch: What the gradient is taken on at both sizes, as `measure_update` takes it.
        loss_fn: `loss_fn(output, targets)`; None for a model that computes its own loss.
        make_optimizer: From parameter groups to the optimizer; None for the plan's optimizer with
            PyTorch's settings. A plan for Muon takes none.
        proxies: In place of a target that is too large: networks of its depth and, best, of two
            small widths, (model, example inputs). Under muP width drops out; whether it does is
            what the second one shows.
        by: One factor for the whole "network", or one for each "role" of parameters.
        options: Further keyword arguments of `measure_update`. Of the residual stream at
            initialization, if nothing else is said: of nine forms it had the lowest mean regret at
            four and eight times the depth (benchmarks/results/criterion_regret.md).
    """

    batch: Batch
    loss_fn: LossFn | None = None
    make_optimizer: MakeOptimizer | None = None
    proxies: tuple[Network, ...] = ()
    by: Literal["network", "role"] = "network"
    options: Mapping[str, Any] = field(default_factory=dict)


def split_measured(
    law: str | Law | Sequence[str | Law], measure: Measure | None
) -> tuple[str | Law | Sequence[str | Law], bool]:
    """Take the law "measured", which is made from measurements, out of the others.

    Args:
        law: As `plan_transfer` takes it.
        measure: As `plan_transfer` takes it.

    Returns:
        The other laws ("constant" if there is none), and whether "measured" was among them.

    Raises:
        LawError: It is there without anything to measure on.

    Example:
        >>> split_measured("constant", None)
        ('constant', False)
    """
    several = [law] if isinstance(law, (str, Law)) else list(law)
    others = [one for one in several if one != Measured.name]
    if len(others) == len(several):
        return law, False
    if measure is None or len(several) - len(others) > 1:
        raise LawError(
            "law 'measured' without measure" if measure is None else "law 'measured' twice",
            "measure=Measure(batch, loss_fn), and the law once",
            "give the batch and the loss on which to measure both networks",
        )
    return others or "constant", True


def with_measured(
    plan: TransferPlan,
    planned: Callable[..., TransferPlan],
    *,
    networks: tuple[Network, Network],
    measure: Measure,
    applied: bool,
) -> TransferPlan:
    """Measure base and target, each with its plan as it will be used.

    Args:
        plan: The plan without the law `measured`.
        planned: Makes the plan of an architecture, with further laws.
        networks: Base and target, freshly initialized; they are copied.
        measure: What to measure on.
        applied: Whether the plan shall follow the measurement.

    Returns:
        The plan with it, or with what it says among the notes.

    Raises:
        PlanError: A network is a graph, which cannot be run.
        MeasureError: See `measure_update`.
        OptimizerError: The plan's optimizer is not known to PyTorch and `make_optimizer` is None.
    """
    stand_ins = measure.proxies or (networks[1],)
    subjects = [
        (_model(network, place), planned(read_architecture(network)))
        for network, place in ((networks[0], "base"), *((one, "target") for one in stand_ins))
    ]
    unit = plan.base_lr
    found = [_mean_square(*subject, measure, unit=unit) for subject in subjects]
    roles = _roles(subjects[0], subjects[-1], measure, unit=unit) if measure.by == "role" else ()
    law = Measured(base=found[0], target=found[-1], roles=roles)
    note = _note(found, law, applied=applied) + _width_note(found[1:])
    if applied:
        plan = planned(read_architecture(networks[1]), law)
    elif not 1 / _WORTH_A_WARNING <= law.factor("") <= _WORTH_A_WARNING:
        warnings.warn(f"{plan.law}: {note}", stacklevel=3)
    return replace(plan, notes=(*plan.notes, note))


def _model(network: Network, place: str) -> nn.Module:
    match network:
        case (nn.Module() as model, _):
            return model
    raise PlanError(
        f"a {place} given as {type(network).__name__}, to be measured",
        "(model, example inputs): the criterion takes a real step",
        "give the model itself, or leave measure out",
    )


def _note(found: list[float], law: Measured, *, applied: bool) -> str:
    at_base, at_target = (value**-0.5 for value in (found[0], found[-1]))
    verb = "has" if applied else "would have"
    return (
        f"measured: eta* {at_base:.4g} at the base, {at_target:.4g} at the target; the criterion "
        f"{verb} the rates of the other laws times {law.factor(''):.3g}"
    )


def _width_note(found: list[float]) -> str:
    """Whether width drops out, where two proxies stand for the target."""
    if len(found) < 2:
        return ""
    ratio = max(math.sqrt(a / b) for a in found for b in found)
    rates = ", ".join(f"{value**-0.5:.4g}" for value in found)
    verdict = "drops out" if ratio <= _WIDTH_DROPS_OUT else "does NOT drop out: use wider proxies"
    return f"; at the proxies' widths eta* {rates}: width {verdict}"


def _roles(
    base: tuple[nn.Module, TransferPlan],
    target: tuple[nn.Module, TransferPlan],
    measure: Measure,
    *,
    unit: float,
) -> tuple[tuple[str, float, float], ...]:
    names = [_names_by_role(plan) for _, plan in (base, target)]
    found = [
        (
            role,
            _mean_square(*base, measure, unit=unit, moves=names[0][role]),
            _mean_square(*target, measure, unit=unit, moves=names[1][role]),
        )
        for role in names[1]
        if role in names[0]
    ]
    # a role that moves no pre-activation, as the head moves no stream, takes the network's factor
    return tuple(one for one in found if min(one[1:]) > 0)


def _names_by_role(plan: TransferPlan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in plan.parameters:
        found.setdefault(entry.role, []).append(entry.name)
    return found


def _mean_square(
    model: nn.Module,
    plan: TransferPlan,
    measure: Measure,
    *,
    unit: float,
    moves: list[str] | None = None,
) -> float:
    private = copy.deepcopy(model)
    plan.rescale_(private)
    options: dict[str, Any] = {"pre_activations": "stream", **measure.options, "lr_unit": unit}
    if moves is not None:
        options["moves"] = moves
    report = measure_update(
        private,
        measure.batch,
        measure.loss_fn,
        optimizer=lambda network: _optimizers(plan, network, measure.make_optimizer),
        **options,
    )
    return report.mean_square_update


def _optimizers(
    plan: TransferPlan, model: nn.Module, make: MakeOptimizer | None
) -> tuple[Optimizer, ...]:
    if plan.optimizer.update == "muon":
        if make is not None:
            raise OptimizerError(
                "make_optimizer for a plan for Muon",
                "none: Muon and AdamW are made from the plan's two kinds of groups",
                "leave make_optimizer out",
            )
        kinds = dict.fromkeys(entry.optimizer for entry in plan.parameters)
        groups = {kind: plan.param_groups(model, kind=kind) for kind in kinds}
        return tuple(_CLASSES[kind](found) for kind, found in groups.items() if found)  # type: ignore[call-arg]
    if make is not None:
        return (make(plan.param_groups(model)),)
    if plan.optimizer.name not in _CLASSES:
        raise OptimizerError(
            f"the optimizer {plan.optimizer.name!r}, to be measured",
            "one of PyTorch's sgd, adam, adamw, muon, or make_optimizer",
            "give Measure(make_optimizer=lambda groups: ...)",
        )
    made: Any = _CLASSES[plan.optimizer.name]
    return (made(plan.param_groups(model)),)
