"""`etastar demo`: tune on a shallow network, train one twelve times deeper by every law."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from etastar.cli.application import app, clear_errors, print_result
from etastar.cli.options import AsJSON, Debug
from etastar.formatting import Shown, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etastar import Recipe, TransferPlan

__all__ = ["DemoResult", "demo"]

_LAWS: Final = "constant effective-depth path-sum structure depth-mup complete-p".split()


def _recipe(plan: TransferPlan, num_steps: int) -> Recipe:
    """A residual CNN on handwritten digits, initialized and trained as a plan says, with SGD."""
    import torch

    from etastar import Recipe
    from etastar.datasets import load
    from etastar.models import build

    def make_model(**size: int) -> torch.nn.Module:
        model = build("resnet", **size)
        plan.initialize_(model, seed=torch.initial_seed())
        return model

    def make_optimizer(model: torch.nn.Module, lr: float, **size: int) -> torch.optim.Optimizer:
        groups = plan.param_groups(model)
        for group in groups:
            group["lr"] *= lr / plan.lr
        return torch.optim.SGD(groups, momentum=0.9)

    return Recipe(
        make_model,
        lambda seed: load("digits").batches(seed, 32, num_steps),
        torch.nn.functional.cross_entropy,
        make_optimizer,
        num_steps=num_steps,
        batch_size=32,
    )


def _compare_laws(
    blocks: tuple[int, int] = (2, 24), *, num_steps: int = 100, seeds: tuple[int, ...] = (0, 1)
) -> Iterator[dict[str, Any]]:
    """Tune the shallow network, and train the deep one at the rate that each law carries there.

    The shallow one is tuned once for each initialization that a law asks for. Relative regret: the
    mean training loss there minus that at the best rate of a grid, over what the best rate gained;
    None where the law's rate diverged.
    """
    from etastar import Tuned, capture_graph, plan_transfer, run_sweep, transfer_regret
    from etastar.models import build, example_inputs

    base, target = ({"depth": depth, "width": 16} for depth in blocks)
    graphs = [
        capture_graph(build("resnet", **size), *example_inputs("resnet", **size))
        for size in (base, target)
    ]

    def planned(law: str, lr: float = 1.0, *, to: int = 1) -> TransferPlan:
        return plan_transfer(Tuned(graphs[0], lr), graphs[to], optimizer="sgd", law=law)

    def trained(plan: TransferPlan, size: dict[str, int], lrs: list[float]) -> Any:
        return run_sweep(_recipe(plan, num_steps), [size], search=lrs, seeds=seeds).sizes[0]

    rates = [2.0**k for k in range(-11, 1)]
    grid = trained(planned("constant"), target, rates[:7])
    best = [run for run in grid.trials if run.point.lr == grid.optimum.lowest_lr]
    tuned: dict[str, float] = {}
    for law in _LAWS:
        at_base = planned(law, to=0)
        residual = at_base.initialization.residual
        if residual not in tuned:
            tuned[residual] = trained(at_base, base, rates[5:]).optimum.lr
        plan = planned(law, tuned[residual])
        runs = trained(plan, target, [plan.lr]).trials
        regret = transfer_regret(
            [run.loss for run in runs],
            [run.loss for run in best],
            initial_losses=[run.initial_loss for run in best],
        )
        yield {
            "law": law,
            "lr": plan.lr,
            "best_lr": grid.optimum.lowest_lr,
            "relative_regret": None if regret.num_diverged else regret.relative,
        }


@dataclass(frozen=True)
class DemoResult(Shown):
    """What came out for each law; see `_compare_laws`."""

    laws: tuple[dict[str, Any], ...]

    def __rich__(self) -> Table:
        """A row for each law."""
        table = Table("law", "learning rate", "best of a grid", "relative regret")
        for row in self.laws:
            relative = inf if row["relative_regret"] is None else row["relative_regret"]
            table.add_row(row["law"], number(row["lr"]), number(row["best_lr"]), percent(relative))
        return table


@app.command()
@clear_errors
def demo(as_json: AsJSON = False, debug: Debug = False) -> None:
    """The main job on real data: tune on a shallow network, train one twelve times deeper."""
    with Console(stderr=True).status("training 2 and 24 residual blocks, about two minutes"):
        result = DemoResult(tuple(_compare_laws()))
    print_result(as_json, result)
