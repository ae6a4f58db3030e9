"""What holds at the base: the settings that were tuned and the optimizer's own, as they agree."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from etastar.errors import OptimizerError, PlanError
from etastar.naming import canonical_parameters
from etastar.transfer.plan_record import BaseRecord
from etastar.transfer.weight_decay import NO_DECAY, DecayAtBase

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from etastar.laws import Architecture
    from etastar.optimizers import OptimizerKind
    from etastar.transfer.tuned import Target, Tuned

__all__ = ["agreed_settings"]

_ROUNDING = 1e-9
_KEPT = ("aux_lr", "eps", "betas", "batch_size", "num_steps", "log_lr_sd")


def agreed_settings(
    tuned: Tuned,
    network: Architecture,
    kind: OptimizerKind,
    instance: Optimizer | None,
    target: Target,
) -> tuple[BaseRecord, DecayAtBase]:
    """The settings at the base, refused where the optimizer has others or does not have them.

    Args:
        tuned: What was tuned.
        network: The base as the laws see it.
        kind: Kind of the optimizer, with an instance's own settings.
        instance: The instance, if one was given.
        target: The target; the instance may hold its parameters.

    Returns:
        The record of the base, and the weight decay of every parameter.

    Raises:
        OptimizerError: A setting that the optimizer lacks, or that its instance has another of.
        PlanError: Groups of the instance differ in weight decay, and neither model holds them.
    """
    _refuse_lacking(tuned, kind, target)
    if instance is not None:
        _refuse_other(tuned, instance)
    usual = tuned.weight_decay if tuned.weight_decay is not None else kind.weight_decay or 0.0
    decay = DecayAtBase(float(usual), without=NO_DECAY)
    if instance is not None and tuned.weight_decay is None:
        decay = _decay_of_groups(instance, tuned, target, usual)
    if tuned.no_decay is not None:
        decay = replace(decay, without=tuple(tuned.no_decay))
    record = BaseRecord(
        depth=network.report.effective_depth,
        lr=float(tuned.lr),
        weight_decay=float(usual),
        **{name: getattr(tuned, name) for name in _KEPT},
    )
    return record, decay


def _refuse_lacking(tuned: Tuned, kind: OptimizerKind, target: Target) -> None:
    lacking = {
        "eps": (tuned.eps is not None or target.eps is not None, (kind.fallback or kind).eps),
        "betas": (tuned.betas is not None, (kind.fallback or kind).betas),
        "weight_decay": (bool(tuned.weight_decay), kind.weight_decay),
    }
    for name, (given, own) in lacking.items():
        if given and own is None:
            raise OptimizerError(
                f"{name}={getattr(tuned, name) or getattr(target, name, None)} for {kind.name}",
                f"no {name}: {kind.name} has none",
                f"leave {name} out",
            )
    if (tuned.aux_lr is not None) != (kind.fallback is not None):
        raise OptimizerError(
            f"aux_lr={tuned.aux_lr} for {kind.name}",
            "aux_lr with a Muon, and with one alone",
            "with a Muon, give the learning rate of the AdamW for embeddings, biases and readout",
        )


def _refuse_other(tuned: Tuned, instance: Optimizer) -> None:
    """An instance says what was tuned, and so does `Tuned`: they must say the same."""
    for name in ("lr", "weight_decay", "eps", "betas"):
        given = getattr(tuned, name)
        found = {_plain(group[name]) for group in instance.param_groups if name in group}
        if given is None or not found:
            continue
        if not any(_equal(given, own) for own in found) or len(found) > 1:
            raise OptimizerError(
                f"{name}={given} tuned, and an optimizer with "
                f"{name}={', '.join(map(str, sorted(found)))}",
                f"one {name}",
                f"leave {name} out of Tuned, give the optimizer's class, or make both agree"
                if name != "lr"
                else "give the optimizer's class, or an instance with the tuned learning rate",
            )


def _plain(value: Any) -> Any:
    return tuple(map(float, value)) if isinstance(value, (tuple, list)) else float(value)


def _equal(ours: Any, theirs: Any) -> bool:
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]
    return all(math.isclose(a, b, rel_tol=_ROUNDING) for a, b in pairs)


def _decay_of_groups(
    instance: Optimizer, tuned: Tuned, target: Target, usual: float
) -> DecayAtBase:
    groups = [(g["params"], float(g.get("weight_decay", 0.0))) for g in instance.param_groups]
    if len({decay for _, decay in groups}) == 1:
        return DecayAtBase(float(usual))
    by_parameter = {id(p): decay for parameters, decay in groups for p in parameters}
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for place, network in (("base", tuned.network), ("target", target.network)):
        if isinstance(network, tuple) and isinstance(network[0], nn.Module):
            named = canonical_parameters(network[0]).items()
            found[place] = {n: by_parameter[id(p)] for n, p in named if id(p) in by_parameter}
    if not any(found.values()):
        raise PlanError(
            "an optimizer whose groups differ in weight decay, of a model that was not given",
            "the optimizer of the base or of the target, that network given as (model, inputs)",
            "give the model, or one weight decay as Tuned(..., weight_decay=...)",
        )
    return DecayAtBase(float(usual), found["base"], found["target"])
