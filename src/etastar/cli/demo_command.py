"""`etastar demo`: tune a shallow GPT, train one eight times deeper at the rate of every rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from etastar.cli.application import app, clear_errors, print_result
from etastar.cli.options import AsJSON, Debug
from etastar.formatting import Shown, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from etastar import TransferPlan

__all__ = ["DemoResult", "demo"]

_RULES: Final = {"one rate": "constant", "-3/2": "effective-depth", "default choice": "auto"}


def _model(plan: TransferPlan | None = None, **size: int) -> nn.Module:
    from etastar.models import build

    model = build("gpt", width=64, context=64, **size)
    return model if plan is None else plan.rescale_(model)


def _adamw(plan: TransferPlan | None, model: nn.Module, lr: float, **size: int) -> Optimizer:
    import torch

    groups = [{"params": list(model.parameters())}] if plan is None else plan.param_groups(model)
    for group in groups:
        group["lr"] = lr * group.get("lr_multiplier", 1.0)
    return torch.optim.AdamW(groups, weight_decay=0.1)


def _batches(num_steps: int, seed: int) -> Iterable[Any]:
    from etastar.datasets import load

    return load("stdlib-text", num_bytes=1_000_000, context=64).batches(seed, 8, num_steps)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.flatten(0, 1), targets.flatten())


def _schedule(optimizer: Optimizer, num_steps: int) -> LRScheduler:
    from torch.optim.lr_scheduler import OneCycleLR

    return OneCycleLR(optimizer, [g["lr"] for g in optimizer.param_groups], num_steps)


def _train(
    size: Mapping[str, int], lrs: Sequence[float], num_steps: int, plan: TransferPlan | None = None
) -> SizeResult:
    """Both seeds of every rate, in two processes."""
    from etastar import Recipe, run_sweep

    recipe = Recipe(
        *(partial(_model, plan), partial(_batches, num_steps), _loss),
        partial(_adamw, plan),
        num_steps=num_steps,
        batch_size=8,
        schedule=_schedule,
        objective="final",
    )
    return run_sweep(recipe, [size], search=lrs, seeds=2, workers=2).sizes[0]


def _compare_rules(blocks: tuple[int, int] = (2, 16), num_steps: int = 150) -> list[dict[str, Any]]:
    """Tune the shallow network, and train the deep one at a grid and at what every rule says.

    Relative regret: mean final loss minus the lowest of all, over what the lowest gained.
    """
    from etastar import Tuned, plan_transfer
    from etastar.models import example_inputs

    sizes, grid = [{"depth": depth} for depth in blocks], [2.0**k for k in range(-9, -4)]
    base, target = ((_model(**size), *example_inputs("gpt", context=64)) for size in sizes)
    tuned = Tuned(base, _train(sizes[0], grid, num_steps).optimum.lr, weight_decay=0.1)
    plans = {
        rule: plan_transfer(tuned, target, optimizer="adamw", law=law)
        for rule, law in _RULES.items()
    }
    found = {"best of a grid": list(_train(sizes[1], grid, num_steps).trials)}
    for rule, plan in plans.items():
        found[rule] = list(_train(sizes[1], [plan.lr], num_steps, plan).trials)
    losses = {rule: mean(run.loss for run in runs) for rule, runs in found.items()}
    print(losses, tuned.lr)
    return []


@dataclass(frozen=True)
class DemoResult(Shown):
    """What came out for each rule; see `_compare_rules`."""

    rules: tuple[dict[str, Any], ...]

    def __rich__(self) -> Table:
        """A row for each rule."""
        table = Table("rule", "learning rate", "95% interval", "final loss", "relative regret")
        for row in self.rules:
            table.add_row(*map(str, row))
        return table


@app.command()
@clear_errors
def demo(as_json: AsJSON = False, debug: Debug = False) -> None:
    """The main job on real data: tune a shallow GPT, train one eight times deeper."""
    with Console(stderr=True).status("training GPTs of 2 and 16 blocks, about two minutes"):
        result = DemoResult(tuple(_compare_rules()))
    print_result(as_json, result)
