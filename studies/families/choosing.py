"""What the default choice proposes without the family itself, and `tune`, which asks it."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etastar import plan_transfer, tune
from etastar.transfer import TransferPlan
from etastar.transfer.default_choice import DefaultChoice
from etastar.transfer.experience import Experience, Parametrization
from studies.families.knowing import known_as
from studies.families.recipes import family_graph, network_recipe
from studies.families.rules import Offer, optuna_rate, tuned, tuning_cost

if TYPE_CHECKING:
    from studies.families.curves import FamilyCurves

TUNED: Final = ("gpt", "resnet-bn")
"""Families on which `tune` is tried, from its own runs."""
_BUDGETS: Final = (0.05, 1.0)  # the default, and one run of the target
_MULTIPLIERS: Final = frozenset(("complete-p", "depth-mup"))


def choice_offers(curves: FamilyCurves, target: int, known: Experience) -> list[Offer]:
    """What the default choice proposes without the family: from one tuned size, and from two.

    Where `initialize_` draws another initialization than the network's own, also from the base
    that was tuned with that.

    Args:
        curves: Of the family: its smallest sizes are looked at.
        target: Depth of the target.
        known: Records of all families, this one's among them or not.

    Returns:
        Offers; none where the base was not run.
    """
    family, scale = curves.family, curves.scale
    known = _without(known, family.name)
    found = []
    cases: list[tuple[str, Parametrization, int]] = [
        ("default choice", "own", 1),
        ("default choice, two sizes", "own", 2),
    ]
    if "stabilized" in family.parametrizations:
        cases.append(("default choice, stabilized", "stabilized", 1))
    for rule, start, number in cases:
        sizes = list(family.sizes(scale)[:number])
        tuned_curves = [curves.curve(start, depth) for depth in sizes]
        if sizes[-1] >= target or None in tuned_curves:
            continue
        plan = plan_transfer(
            [
                tuned(
                    family_graph(family.name, scale.name, depth),
                    *(curve.optimum.lr, family),
                    log_lr_sd=curve.log_sd,
                )
                for depth, curve in zip(sizes, tuned_curves, strict=True)
                if curve is not None
            ],
            family_graph(family.name, scale.name, target),
            optimizer=family.optimizer,
            law=DefaultChoice(known),
            width="none",
            init="any" if known_as(family, start) == "own" else "stabilized",
        )
        found.append(_offer(rule, plan, tuning_cost(curves, sizes, start, target), start))
    return found


def tune_offers(curves: FamilyCurves, target: int, known: Experience, storage: Path) -> list[Offer]:
    """What `tune` comes to from smaller sizes, and Optuna at the target for the same cost.

    Args:
        curves: Of the family; `tune` makes runs of its own.
        target: Depth of the target.
        known: Records of all families, this one's among them or not.
        storage: Where the runs of `tune` are kept.

    Returns:
        Two offers for each budget.
    """
    family, scale = curves.family, curves.scale
    recipe = network_recipe(family, scale, "own")
    at_target, found = curves.curve("own", target), []
    for budget in _BUDGETS:
        result = tune(
            recipe,
            [{"depth": depth} for depth in family.sizes(scale)[:-1]],
            {"depth": target},
            optimizer=family.optimizer,
            law=DefaultChoice(_without(known, family.name)),
            budget=budget,
            storage=storage,
        )
        name = f"tune, {budget:.0%} allowed"
        found.append(_offer(name, result.plan, result.cost))
        if at_target is not None:
            trials = max(1, round(result.cost))
            lr = optuna_rate(at_target, 2.0**family.start, trials)
            found.append(Offer(f"Optuna for {name}", "own", lr, float(trials)))
    return found


def _offer(rule: str, plan: TransferPlan, cost: float, start: Parametrization = "own") -> Offer:
    parametrization: Any = start  # unless a law brings multipliers
    for law in plan.laws:
        parametrization = law.name if law.name in _MULTIPLIERS else parametrization
    # a recipe multiplies by the parametrization itself: what is left is the one rate
    left = prod(
        factors.lr for name, factors in plan.parameters[0].factors if name not in _MULTIPLIERS
    )
    lr = plan.base.lr * left
    assert plan.lr_interval is not None, "the default choice has an interval"
    low, high = (lr * end / plan.lr for end in plan.lr_interval)
    return Offer(rule, parametrization, lr, cost, (low, high), plan.why)


def _without(known: Experience, family: str) -> Experience:
    has = any(record.family == family for record in known.records)
    return known.without(family) if has else known
