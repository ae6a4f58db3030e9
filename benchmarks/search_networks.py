"""The networks of the benchmarks of searches and of the criterion's regret, as recipes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etastar.datasets import load
from etastar.datasets.dataset import Dataset
from etastar.graph import Graph, capture_graph
from etastar.init import initialize_
from etastar.models import build, example_inputs
from etastar.sweep.recipe import Recipe

CONTEXT = 16
OPTIONS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 32},
    "mlp-tanh": {"width": 128, "activation": "tanh"},
    "resnet": {"width": 16},
    "gpt": {"width": 16, "context": CONTEXT, "head_width": 8},
}


def zoo_name(network: str) -> str:
    """The network's name in the zoo."""
    return network.split("-")[0]


@cache
def graph_of(network: str, depth: int) -> Graph:
    """The captured graph; once in a process."""
    options = {"depth": depth, **OPTIONS[network]}
    inputs = example_inputs(zoo_name(network), **options)
    return capture_graph(build(zoo_name(network), **options), *inputs)


@cache
def _dataset(network: str) -> Dataset:
    if network == "gpt":
        return load("stdlib-text", context=CONTEXT, num_bytes=200_000)
    return load("digits")


def make_model(network: str, *, depth: int) -> nn.Module:
    """A network with stabilizing initialization, drawn from the global random numbers."""
    model = build(zoo_name(network), depth=depth, **OPTIONS[network])
    initialize_(model, graph_of(network, depth), residual="last", seed=torch.initial_seed())
    return model


def batches(
    network: str, batch_size: int, num_steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches in the order of this seed."""
    return _dataset(network).batches(seed, batch_size, num_steps)


def loss_fn(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over classes, which are the last dimension."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def sgd(model: nn.Module, lr: float, **size: int) -> torch.optim.Optimizer:
    """Plain SGD."""
    return torch.optim.SGD(model.parameters(), lr=lr)


def adam(model: nn.Module, lr: float, **size: int) -> torch.optim.Optimizer:
    """Adam with PyTorch's defaults."""
    return torch.optim.Adam(model.parameters(), lr=lr)


def recipe(network: str, num_steps: int, batch_size: int) -> Recipe:
    """What a run of this network is."""
    return Recipe(
        make_model=partial(make_model, network),
        batches=partial(batches, network, batch_size, num_steps),
        loss_fn=loss_fn,
        make_optimizer=sgd if zoo_name(network) == "mlp" else adam,
        num_steps=num_steps,
        batch_size=batch_size,
    )
