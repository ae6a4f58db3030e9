"""One training run of the demo: a residual convolutional network on handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from etastar.datasets import load
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.models import build, example_inputs
from etastar.sweep import run_trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from etastar.datasets.dataset import Dataset
    from etastar.graph import Graph
    from etastar.report.demo_result import BranchInit, DemoSettings
    from etastar.sweep import TrialResult
    from etastar.transfer import TransferPlan

__all__ = ["DemoRun", "network_graph", "run_of_plan", "train"]


@dataclass(frozen=True)
class DemoRun:
    """All that decides a run; equal records are the same run.

    Attributes:
        settings: Network and budget.
        blocks: Residual blocks.
        residual: How the branches are initialized.
        lr: Learning rate (of the hidden weights, where a plan sets several).
        plan: What else a law sets; None when there is one rate and no factor on initial values.
        seed: Of initialization and batch order.
    """

    settings: DemoSettings
    blocks: int
    residual: BranchInit
    lr: float
    plan: TransferPlan | None
    seed: int


def run_of_plan(
    plan: TransferPlan, *, settings: DemoSettings, residual: BranchInit, seed: int
) -> DemoRun:
    """The run that a plan asks for at the target.

    Args:
        plan: Made for the target.
        settings: Network and budget.
        residual: How the branches are initialized.
        seed: Of initialization and batch order.

    Returns:
        The run; without the plan where one rate says everything.
    """
    uniform = {(entry.lr, entry.init) for entry in plan.parameters} == {(plan.lr, 1.0)}
    kept = None if uniform else plan
    return DemoRun(settings, settings.target_blocks, residual, plan.lr, kept, seed)


@cache
def network_graph(blocks: int, width: int) -> Graph:
    """The captured graph of the network; captured once in a process.

    Args:
        blocks: Residual blocks.
        width: Channels.

    Returns:
        The graph.
    """
    inputs = example_inputs("resnet", depth=blocks, width=width)
    return capture_graph(_network(blocks, width), *inputs)


def _network(blocks: int, width: int) -> nn.Module:
    return build("resnet", depth=blocks, width=width, branch_layers=1, batch_norm=False)


@cache
def _digits() -> Dataset:
    return load("digits")


def train(run: DemoRun, check: Callable[[], None]) -> TrialResult:
    """Train one network once, on SGD with momentum and cross-entropy.

    Args:
        run: What to train.
        check: Called after every step; it may raise to end the run.

    Returns:
        The losses, and the accuracy on the test part as `evaluation`.
    """
    settings = run.settings
    return run_trial(
        lambda: _initialized(run),
        _digits().batches(run.seed, settings.batch_size, settings.num_steps),
        F.cross_entropy,
        lambda model: _optimizer(run, model),
        num_steps=settings.num_steps,
        seed=run.seed,
        evaluate=_accuracy,
        on_step=lambda _step, _loss: check(),
    )


def _initialized(run: DemoRun) -> nn.Module:
    width = run.settings.width
    model = _network(run.blocks, width)
    initialize_(model, network_graph(run.blocks, width), residual=run.residual, seed=run.seed)
    if run.plan is not None:
        run.plan.rescale_(model)
    return model


def _optimizer(run: DemoRun, model: nn.Module) -> torch.optim.Optimizer:
    parameters = model.parameters() if run.plan is None else run.plan.param_groups(model)
    return torch.optim.SGD(parameters, lr=run.lr, momentum=run.settings.momentum)


def _accuracy(model: nn.Module) -> float:
    data = _digits()
    logits: Tensor = model(data.test_inputs)
    return (logits.argmax(1) == data.test_targets).double().mean().item()
