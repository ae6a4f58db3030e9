"""From names to an experiment: MODEL, data set and optimizer, all picklable for other processes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache, partial
from math import inf
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from etastar.datasets import Dataset, TaskKind, load
from etastar.errors import ModelSpecError
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.sources.model_spec import load_model
from etastar.sweep.space import Budget, Experiment

__all__ = ["INITS", "OPTIMIZERS", "named_experiment"]

INITS = ("all", "last", "none", "own")
"""Our He initialization with that residual rule, or the model's own initialization."""

OPTIMIZERS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def named_experiment(
    model: str,
    *,
    settings: dict[str, Any],
    data: str,
    data_options: dict[str, Any],
    optimizer: str,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    init: str = "all",
    budget: Budget,
) -> Experiment:
    """The experiment that names say.

    Args:
        model: MODEL, as the command line takes it; its sizes are further settings.
        settings: Settings of the model at all sizes.
        data: Name of a data set.
        data_options: Options of its loader.
        optimizer: A key of `OPTIMIZERS`.
        momentum: Of SGD.
        weight_decay: As the optimizer takes it.
        init: One of `INITS`.
        budget: Length of a run and its loss.

    Returns:
        An experiment whose callables can be pickled.

    Raises:
        ModelSpecError: An unknown optimizer or initialization, or momentum where there is none.

    Example:
        >>> experiment = named_experiment(
        ...     "zoo:mlp", settings={"width": 8}, data="digits", data_options={}, optimizer="sgd",
        ...     budget=Budget(num_steps=2, batch_size=4),
        ... )
        >>> len(list(experiment.factory(depth=2).parameters()))
        6
    """
    if optimizer not in OPTIMIZERS:
        raise ModelSpecError(
            f"optimizer {optimizer!r}", f"one of: {', '.join(OPTIMIZERS)}", "choose a listed one"
        )
    if init not in INITS:
        raise ModelSpecError(f"init {init!r}", f"one of: {', '.join(INITS)}", "choose a listed one")
    if not (0 <= momentum < 1 and 0 <= weight_decay < inf):
        raise ModelSpecError(
            f"momentum={momentum}, weight_decay={weight_decay}",
            "a momentum from 0 to below 1, a finite weight decay of 0 or more",
            "change what is out of range",
        )
    if momentum and optimizer != "sgd":
        raise ModelSpecError(
            f"momentum={momentum} for {optimizer}", "momentum with sgd alone", "leave it out"
        )
    task = _dataset(data, json.dumps(data_options, sort_keys=True)).task
    options = {"weight_decay": weight_decay} | ({"momentum": momentum} if momentum else {})
    source = partial(_dataset, data, json.dumps(data_options, sort_keys=True))
    return Experiment(
        factory=partial(_build, source, model, settings, init),
        batches=partial(_batches, source),
        loss_fn=partial(_loss, task),
        make_optimizer=partial(_make_optimizer, optimizer, options),
        budget=budget,
        evaluate=partial(_held_out_loss, source),
        settings={
            "model": model,
            "model settings": json.dumps(settings, sort_keys=True),
            "data": data,
            "data options": json.dumps(data_options, sort_keys=True),
            "optimizer": optimizer,
            "optimizer options": json.dumps(options, sort_keys=True),
            "initialization": init,
        },
    )


@lru_cache(maxsize=2)
def _dataset(name: str, options: str) -> Dataset:
    """A data set, loaded once in each process."""
    return load(name, **json.loads(options))


def _build(
    source: partial[Dataset], spec: str, settings: dict[str, Any], init: str, **size: Any
) -> nn.Module:
    """A network of one size; its initialization draws from the run's own seed."""
    (inputs, _), *_ = source().batches(0, 2, 1)
    loaded = load_model(spec, {**settings, **size}, inputs=((inputs,), {}))
    if init != "own":
        graph = capture_graph(loaded.model, *loaded.args, **loaded.kwargs)
        initialize_(loaded.model, graph, residual=cast("Any", init), seed=torch.initial_seed())
    return loaded.model


def _batches(
    source: partial[Dataset], seed: int, batch_size: int, num_steps: int
) -> Iterable[tuple[Tensor, Tensor]]:
    return source().batches(seed, batch_size, num_steps)


def _logits(output: Any) -> Tensor:
    """The tensor of scores: the output itself, or what transformers names so."""
    tensor = getattr(output, "logits", output)
    if not isinstance(tensor, Tensor):
        raise ModelSpecError(
            f"a model that returned {type(output).__name__}",
            "a tensor, or a record with `logits`",
            "wrap the model in a factory that returns its scores",
        )
    return tensor


def _loss(task: TaskKind, output: Any, targets: Tensor) -> Tensor:
    scores = _logits(output)
    if task == "regression":
        return F.mse_loss(scores, targets)
    return F.cross_entropy(scores.flatten(0, -2), targets.flatten())


def _make_optimizer(name: str, options: dict[str, Any], model: nn.Module, lr: float) -> Optimizer:
    made: Optimizer = OPTIMIZERS[name](model.parameters(), lr=lr, **options)
    return made


@torch.no_grad()
def _held_out_loss(source: partial[Dataset], model: nn.Module) -> float:
    data = source()
    device = next(model.parameters()).device
    total = 0.0
    batches = zip(
        torch.split(data.test_inputs, 256), torch.split(data.test_targets, 256), strict=True
    )
    for inputs, targets in batches:
        loss = _loss(data.task, model(inputs.to(device)), targets.to(device))
        total += float(loss) * len(inputs)
    return total / len(data.test_inputs)
