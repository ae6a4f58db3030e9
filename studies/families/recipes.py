"""What a run of a family is: its recipe, under any of its parametrizations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR

from etastar import Recipe, Tuned, capture_graph, plan_transfer
from etastar.datasets.dataset import Dataset
from etastar.graph import Graph
from etastar.transfer import TransferPlan
from etastar.transfer.experience import Parametrization
from studies.data_sets import load_named
from studies.families.declared import FAMILIES, SCALES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from studies.families.declared import FamilyScale, NetworkFamily

_DECAY: Final = {"adamw": 0.1, "muon": 0.1, "sgd": 5e-4}
_LAWS: Final = {"complete-p": "complete-p", "depth-mup": "depth-mup"}


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the hidden matrices and AdamW for everything else, as one optimizer.

    Args:
        muon: Groups for `torch.optim.Muon`, whose rates are those of AdamW (`match_rms_adamw`).
        adamw: Groups for `torch.optim.AdamW`.
    """

    def __init__(self, muon: list[dict[str, Any]], adamw: list[dict[str, Any]]) -> None:
        self._parts = (
            torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(adamw),
        )
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both; they share this optimizer's groups."""
        for part in self._parts:
            part.step(closure)  # type: ignore[no-untyped-call]


def warmup_cosine(optimizer: torch.optim.Optimizer, num_steps: int) -> LambdaLR:
    """Linear warm-up over a tenth of the steps, then a cosine to a tenth of the rate.

    Args:
        optimizer: Its groups keep their ratios.
        num_steps: Of the run.

    Returns:
        The scheduler, to be stepped after every step.
    """
    warmup = max(1, num_steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        share = (step - warmup) / max(1, num_steps - warmup)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, share)))

    return LambdaLR(optimizer, factor)


@lru_cache(maxsize=2)
def _data(kind: str, scale: str) -> Dataset:
    chosen = SCALES[scale]
    if kind == "text":
        name, options = chosen.text_data
        return load_named(name, context=chosen.context, **options)
    name, settings = chosen.image_data[:2]
    return load_named(name, **settings)


def _batch_size(family: NetworkFamily, scale: FamilyScale) -> int:
    return family.batch_size * scale.batch


def _batches(name: str, scale: str, num_steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    family, chosen = _by_name(name), SCALES[scale]
    # another seed than that of the initialization, so that neither says anything of the other
    return _data(family.data, scale).batches(seed + 1_000, _batch_size(family, chosen), num_steps)


def _by_name(name: str) -> NetworkFamily:
    return next(family for family in FAMILIES if family.name == name)


def _network(name: str, scale: str, depth: int) -> nn.Module:
    family, chosen = _by_name(name), SCALES[scale]
    return family.make(depth, round(family.width * chosen.widening), chosen)


@lru_cache(maxsize=16)
def family_graph(name: str, scale: str, depth: int) -> Graph:
    """The graph of a family's network.

    Args:
        name: Of the family.
        scale: Name of the scale.
        depth: Blocks or layers.

    Returns:
        The captured graph.
    """
    inputs = _data(_by_name(name).data, scale).train_inputs[:2]
    with torch.random.fork_rng(devices=[]):
        return capture_graph(_network(name, scale, depth), inputs)


@lru_cache(maxsize=32)
def parametrization_plan(
    name: str, scale: str, parametrization: Parametrization, depth: int
) -> TransferPlan:
    """The plan of a parametrization from the family's base, at the rate 1/1000.

    Args:
        name: Of the family.
        scale: Name of the scale.
        parametrization: Which.
        depth: Of the target.

    Returns:
        The plan: factors of rates, epsilons and initial weights.
    """
    family = _by_name(name)
    base = family_graph(name, scale, family.base_depth)
    return plan_transfer(
        Tuned(
            base,
            1e-3,
            weight_decay=_DECAY[family.optimizer],
            aux_lr=1e-3 if family.optimizer == "muon" else None,
        ),
        family_graph(name, scale, depth),
        optimizer=family.optimizer,
        law=_LAWS.get(parametrization, "constant"),
        width="none",  # all sizes of a family are equally wide
    )


def _model(name: str, scale: str, parametrization: Parametrization, depth: int) -> nn.Module:
    model = _network(name, scale, depth)
    plan = parametrization_plan(name, scale, parametrization, depth)
    if parametrization == "stabilized":
        plan.initialize_(model, seed=torch.initial_seed())
    elif parametrization != "own":
        plan.rescale_(model)
    return model


def _optimizer(
    name: str,
    scale: str,
    parametrization: Parametrization,
    model: nn.Module,
    lr: float,
    depth: int,
) -> torch.optim.Optimizer:
    family = _by_name(name)
    plan = parametrization_plan(name, scale, parametrization, depth)
    kinds = ("muon", "adamw") if family.optimizer == "muon" else (family.optimizer,)
    groups = {kind: _groups(plan, model, kind, lr) for kind in kinds}
    optimizer: torch.optim.Optimizer
    if family.optimizer == "sgd":
        return torch.optim.SGD(groups["sgd"], momentum=0.9)
    if family.optimizer == "muon":
        optimizer = MuonWithAdamW(groups["muon"], groups["adamw"])
    else:
        optimizer = torch.optim.AdamW(groups["adamw"])
    parameters = list(model.parameters())

    def clip(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)

    optimizer.register_step_pre_hook(clip)
    return optimizer


def _groups(plan: TransferPlan, model: nn.Module, kind: str, lr: float) -> list[dict[str, Any]]:
    """The plan's groups at another rate; no decay on vectors."""
    groups = []
    for group in plan.param_groups(model, kind=kind if kind in ("muon", "adamw") else None):
        for decayed in (True, False):
            chosen = [p for p in group["params"] if (p.ndim >= 2) == decayed]
            decay = group["weight_decay"] if decayed else 0.0
            entry = {"params": chosen, "lr": lr * group["lr_multiplier"], "weight_decay": decay}
            if "eps" in group:
                entry["eps"] = group["eps"]
            groups += [entry] if chosen else []
    return groups


def _depth(name: str, scale: str, depth: int) -> float:
    return float(family_graph(name, scale, depth).depth().effective_depth)


def network_recipe(
    family: NetworkFamily,
    scale: FamilyScale,
    parametrization: Parametrization,
    *,
    num_steps: int | None = None,
) -> Recipe:
    """What a run is: the loss is the mean over the last tenth of the steps.

    Every batch is seen once at scale `cpu`, so the training loss is that of unseen examples.

    Args:
        family: The family.
        scale: The scale.
        parametrization: Which.
        num_steps: Of the run, with its whole schedule; None for the scale's.

    Returns:
        The recipe; its callables can be pickled.
    """
    steps = num_steps or scale.num_steps
    return Recipe(
        partial(_model, family.name, scale.name, parametrization),
        partial(_batches, family.name, scale.name, steps),
        F.cross_entropy,
        partial(_optimizer, family.name, scale.name, parametrization),
        num_steps=steps,
        batch_size=_batch_size(family, scale),
        schedule=warmup_cosine,
        objective="final",
        depth=partial(_depth, family.name, scale.name),
    )
