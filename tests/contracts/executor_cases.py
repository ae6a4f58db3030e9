"""Recipes of importable functions, for executors that send them to other processes."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from etastar.sweep.recipe import Point, Recipe

SIZE = (("depth", 2), ("width", 8))
POINTS = tuple(Point(lr, seed) for lr in (0.01, 0.1, 1e6) for seed in (0, 1))


def network(depth, width):
    widths = [3] + [width] * depth
    layers = [layer for fan_in in widths[:-1] for layer in (nn.Linear(fan_in, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 2)).double()


def broken_network(depth, width):
    raise ZeroDivisionError("no network today")


def batches(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        inputs = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        yield inputs, inputs[:, :2].sin()


def deadly_batches(flag, seed):
    """The batches, in the middle of which the process kills itself, once."""
    for step, batch in enumerate(batches(seed)):
        if step == 10 and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def always_deadly_batches(seed):
    os.kill(os.getpid(), signal.SIGKILL)
    return batches(seed)


def slow_batches(seed):
    for batch in batches(seed):
        time.sleep(0.02)
        yield batch


def stubborn_batches(seed):
    """The batches; those of seed 1 hang, and no exception ends that."""
    while seed == 1:
        try:
            time.sleep(1000)
        except BaseException:
            continue
    return batches(seed)


def momentum(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def held_out(model):
    inputs = torch.linspace(-1, 1, 30, dtype=torch.float64).view(10, 3)
    return F.mse_loss(model(inputs), inputs[:, :2].sin()).item()


def recipe(num_steps=20, **changes):
    parts = {
        "make_model": network,
        "batches": batches,
        "loss_fn": F.mse_loss,
        "make_optimizer": momentum,
        "num_steps": num_steps,
        "batch_size": 4,
        "objective": "validation",
        "evaluate": held_out,
    }
    return Recipe(**(parts | changes))


def network_of_threads(threads, depth, width):
    if torch.get_num_threads() != threads:
        raise RuntimeError(f"{torch.get_num_threads()} threads")
    return network(depth, width)


def leaving_network(depth, width):
    raise SystemExit(3)
