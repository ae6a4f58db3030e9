"""A transferred rate as a prior, for those who polish it at the target with Optuna."""

from __future__ import annotations

import math
from typing import Any

from etastar.errors import PlanError
from etastar.transfer.plan import TransferPlan


def suggest_lr(trial: Any, plan: TransferPlan, *, name: str = "lr") -> float:
    """Suggest a rate out of the plan's 95% interval, on a logarithmic scale.

    The other groups keep their ratios to it: multiply every group's `lr` by the rate over
    `plan.lr`. The plan's own rate is worth the first trial: `study.enqueue_trial({"lr": plan.lr})`.

    Args:
        trial: Of Optuna.
        plan: A plan with an interval.
        name: Of the parameter in the study.

    Returns:
        The rate of what `plan.lr` is the rate of.

    Raises:
        PlanError: The plan's law says no interval, or one of a single rate.

    Example:
        >>> from types import SimpleNamespace
        >>> trial = SimpleNamespace(suggest_float=lambda name, low, high, log: (low * high) ** 0.5)
        >>> suggest_lr(trial, SimpleNamespace(lr=0.1, lr_interval=(0.05, 0.2)))
        0.1
    """
    low, high = plan.lr_interval or (math.nan, math.nan)
    if not low < high:
        raise PlanError(
            f"a plan whose law ({plan.law}) says no interval of the rate",
            "a plan with lr_interval",
            "plan with law='auto', or choose bounds: trial.suggest_float('lr', plan.lr / 3, "
            "plan.lr * 3, log=True)",
        )
    return float(trial.suggest_float(name, low, high, log=True))
