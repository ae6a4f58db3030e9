"""`etastar demo`: tune on a shallow network, train one six times deeper by every law."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from etastar.cli.application import app, clear_errors, print_result
from etastar.cli.options import AsJSON, Debug

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etastar import Experiment, TransferPlan

__all__ = ["demo"]

_RESIDUAL: Final = {"constant": "all", "effective-depth": "all", "path-sum": "all",
                    "structure": "all", "depth-mup": "none", "complete-p": "none"}  # fmt: skip
"""Variance 1/K on the branches, or none where the law brings the branches' factor itself."""


def _experiment(residual: Any, num_steps: int, plan: TransferPlan | None = None) -> Experiment:
    """A residual CNN on handwritten digits, SGD with momentum; under a plan, if there is one."""
    import torch

    from etastar import Budget, Experiment, capture_graph, initialize_
    from etastar.datasets import load
    from etastar.models import build, example_inputs

    def make_model(**size: int) -> torch.nn.Module:
        model = build("resnet", **size)
        graph = capture_graph(model, *example_inputs("resnet", **size))
        initialize_(model, graph, residual=residual, seed=torch.initial_seed())
        if plan is not None:
            plan.rescale_(model)
        return model

    def make_optimizer(model: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        parameters = model.parameters() if plan is None else plan.param_groups(model)
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9)

    loss_fn, budget = torch.nn.functional.cross_entropy, Budget(num_steps, batch_size=32)
    return Experiment(make_model, load("digits").batches, loss_fn, make_optimizer, budget)


def _compare_laws(
    blocks: tuple[int, int] = (2, 24), *, num_steps: int = 100, seeds: tuple[int, ...] = (0, 1)
) -> Iterator[dict[str, Any]]:
    """Tune the shallow network, and train the deep one at the rate that each law carries there.

    Relative regret: the mean training loss there minus that at the best rate of a grid, over what
    the best rate gained; None where the law's rate diverged.
    """
    from etastar import Tuned, plan_transfer, run_sweep, transfer_regret
    from etastar.models import build, example_inputs

    base, target = ({"depth": depth, "width": 16} for depth in blocks)
    networks = [(build("resnet", **s), example_inputs("resnet", **s)) for s in (base, target)]

    def train(size: dict[str, int], lrs: list[float], residual: str, plan: Any = None) -> Any:
        experiment = _experiment(residual, num_steps, plan)
        return run_sweep(experiment, [size], lrs=lrs, seeds=seeds).sizes[0]

    rates = [2.0**k for k in range(-11, 1)]
    tuned = {r: train(base, rates[5:], r).optimum.lr for r in ("all", "none")}
    grid = train(target, rates[:7], "all")
    best = [run for run in grid.trials if run.point.lr == grid.optimum.lowest_lr]
    for law, residual in _RESIDUAL.items():
        plan = plan_transfer(
            Tuned(networks[0], tuned[residual]), networks[1], optimizer="sgd", law=law
        )
        runs = train(target, [plan.lr], residual, plan).trials
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


@app.command()
@clear_errors
def demo(as_json: AsJSON = False, debug: Debug = False) -> None:
    """The main job on real data: tune on a shallow network, train one six times deeper."""
    with Console(stderr=True).status("training 2 and 24 residual blocks, about two minutes"):
        rows = list(_compare_laws())
    table = Table("law", "learning rate", "best of a grid", "relative regret")
    for row in rows:
        relative = row["relative_regret"]
        regret = "diverged" if relative is None else f"{100 * relative:.1f}%"
        table.add_row(row["law"], f"{row['lr']:.3g}", f"{row['best_lr']:.3g}", regret)
    print_result(as_json, rows, lambda: table)
