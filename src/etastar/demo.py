"""The main job on real data: tune a shallow GPT, train one eight times deeper at every rule's rate.

Network, data, sizes and steps were chosen because both seeds' optima agree within about a factor of
1.5 at both depths, before any rule was tried on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any, Final

from torch import Tensor, nn, optim

from etastar.datasets import load
from etastar.models import build, example_inputs
from etastar.sweep import Recipe, run_sweep
from etastar.transfer import TransferPlan, Tuned, plan_transfer

_RULES: Final = {"one rate": "constant", "-3/2": "effective-depth", "default choice": "auto"}


def _model(plan: TransferPlan | None, **size: int) -> nn.Module:
    model = build("gpt", width=64, context=64, **size)
    if plan is not None:
        plan.rescale_(model)
    return model


def _adamw(plan: TransferPlan | None, model: nn.Module, lr: float, **size: int) -> optim.Optimizer:
    if plan is None:
        return optim.AdamW(model.parameters(), lr, weight_decay=0.1)
    return optim.AdamW(plan.param_groups(model))


def _batches(num_steps: int, seed: int) -> Iterable[Any]:
    return load("stdlib-text", num_bytes=1_000_000, context=64).batches(seed, 8, num_steps)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _one_cycle(optimizer: optim.Optimizer, num_steps: int) -> optim.lr_scheduler.OneCycleLR:
    rates = [group["lr"] for group in optimizer.param_groups]
    return optim.lr_scheduler.OneCycleLR(optimizer, rates, num_steps)


def _train(
    size: Mapping[str, int], lrs: Sequence[float], num_steps: int, plan: TransferPlan | None = None
) -> dict[str, float]:
    """Two seeds of every rate, in two processes: the optimum, and the losses at the best rate."""
    recipe = Recipe(
        *(partial(_model, plan), partial(_batches, num_steps), _loss, partial(_adamw, plan)),
        num_steps=num_steps,
        batch_size=8,
        schedule=_one_cycle,
        objective="final",
    )
    found = run_sweep(recipe, [size], search=lrs, seeds=2, workers=2).sizes[0]
    assert found.optimum is not None, "a GPT learns at one of the rates"
    lr = found.optimum.lowest_lr
    best = [trial for trial in found.trials if trial.point.lr == lr]
    initial, loss = mean(run.initial_loss for run in best), mean(run.loss for run in best)
    return {"optimum": found.optimum.lr, "lr": lr, "initial_loss": initial, "loss": loss}


def compare_rules(
    blocks: tuple[int, int] = (2, 16),
    *,
    num_steps: int = 150,
    rates: Sequence[float] = (1 / 512, 1 / 256, 1 / 128, 1 / 64, 1 / 32),
) -> tuple[dict[str, Any], ...]:
    """Tune the shallow network; train the deep one at all rates, and at what every rule says.

    Args:
        blocks: Of the two networks.
        num_steps: Of every run.
        rates: The grid of both.

    Returns:
        A row for each rule: rate, interval, mean final loss of both seeds, and relative regret:
        that loss minus the lowest of all rows, over what the lowest gained.
    """
    small, big = ({"depth": depth} for depth in blocks)
    base, target = ((_model(None, **x), example_inputs("gpt", context=64)) for x in (small, big))
    tuned = Tuned(base, _train(small, rates, num_steps)["optimum"], weight_decay=0.1)
    rows: list[dict[str, Any]] = [{"rule": "best of a grid", **_train(big, rates, num_steps)}]
    for rule, law in _RULES.items():
        plan = plan_transfer(tuned, target, optimizer="adamw", law=law)
        trained = _train(big, [plan.lr], num_steps, plan)
        rows.append({"rule": rule, "interval": plan.lr_interval, **trained})
    best = min(rows, key=lambda row: row["loss"])
    gained = best["initial_loss"] - best["loss"]
    return tuple(row | {"relative_regret": (row["loss"] - best["loss"]) / gained} for row in rows)
