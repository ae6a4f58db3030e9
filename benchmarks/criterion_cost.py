"""What measuring the criterion costs: in forward passes per seed, and in memory of training steps.

Usage: python benchmarks/criterion_cost.py

Time: CPU time of one thread; forward passes (as in training, recorded by autograd), then a
measurement of four seeds, then passes again, in every round; the ratio of the round, per seed, as
median and quartiles over the rounds: the speed of a shared machine changes by a fifth from one
second to the next. For comparison, what a training step itself
takes (pass, gradient and AdamW's step). Memory: the most that tensors hold at once, beyond the
model, in a measurement with AdamW over that in its second training step, counted by PyTorch's
profiler. Written to benchmarks/results/criterion_cost.json and criterion_cost.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from etastar.measure import measure_update
from etastar.models import build

RESULTS = Path(__file__).parent / "results"
ROUNDS, SEEDS = 15, (0, 1, 2, 3)
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "MLP": ("mlp", {"depth": 8, "width": 512}, 512),
    "MLP, width 1024": ("mlp", {"depth": 8, "width": 1024}, 512),
    "MLP, batch 2048": ("mlp", {"depth": 8, "width": 512}, 2048),
    "ResNet": ("resnet", {"depth": 8, "width": 32}, 32),
    "GPT": ("gpt", {"depth": 6, "width": 128, "context": 64, "vocabulary": 256}, 32),
}


def made(name: str) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A network of the zoo and a batch."""
    model, options, examples = NETWORKS[name]
    torch.manual_seed(0)
    network = build(model, **options)
    if model == "gpt":
        ids = torch.randint(options["vocabulary"], (examples, options["context"]))
        return network, (ids, ids)
    side = 28 if model == "resnet" else 8
    return network, (torch.randn(examples, 1, side, side), torch.randint(10, (examples,)))


def loss_fn(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the last dimension."""
    return F.cross_entropy(scores.flatten(0, -2), targets.flatten())


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    """AdamW as PyTorch sets it."""
    return torch.optim.AdamW(network.parameters(), lr=1e-3)


def seconds(action: Any) -> float:
    """CPU time of one call: what the clock would say on an idle machine, as there is one thread."""
    start = time.process_time()
    action()
    return time.process_time() - start


def time_ratios(name: str) -> dict[str, list[float]]:
    """Quartiles and median of what takes how many forward passes: a step, and a measurement."""
    network, batch = made(name)
    step = training_step(network, batch)

    def measured() -> float:
        measure = partial(measure_update, network, batch, loss_fn, optimizer=adamw, seeds=SEEDS)
        return seconds(measure) / len(SEEDS)

    def one_pass() -> float:
        return median(seconds(lambda: network(batch[0])) for _ in range(5))

    def ratios(action: Callable[[], float]) -> list[float]:
        one_pass(), action()  # warms up
        found = []
        for _ in range(ROUNDS):
            before = one_pass()
            taken = action()
            found.append(taken / ((before + one_pass()) / 2))
        return [round(float(q), 2) for q in quantiles(found, n=4)]

    return {"step": ratios(lambda: seconds(step)), "measurement": ratios(measured)}


def training_step(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
    """One step of AdamW, which has its moments in memory after the first."""
    optimizer = adamw(network)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss_fn(network(batch[0]), batch[1]))
        optimizer.step()

    return step


def peak(action: Callable[[], Any]) -> float:
    """Most bytes that tensors held at once during a call, over what they held before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        action()
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(change for _, change in changes))


def memory_ratio(name: str) -> float:
    """Memory of a measurement over that of training."""
    network, batch = made(name)

    def two_steps() -> None:
        step = training_step(network, batch)
        step()  # the second has the moments in memory
        step()

    measure = partial(measure_update, network, batch, loss_fn, optimizer=adamw)
    return round(peak(measure) / peak(two_steps), 2)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    low, high = results["load"]
    lines = [
        "# Cost of the criterion",
        "",
        f"PyTorch {results['torch']}, one thread, {len(SEEDS)} seeds, AdamW; {ROUNDS} rounds, "
        f"beside other work (load {low} to {high} on {results['cores']} cores).",
        "",
        "| network | time in forward passes | quartiles | a training step's "
        "| memory over a step's |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in results["networks"].items():
        low, middle, high = row["time"]["measurement"]
        cells = (middle, f"{low} to {high}", row["time"]["step"][1], row["memory"])
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, write and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    loads = [os.getloadavg()[0]]
    for name in NETWORKS:
        found[name] = {"time": time_ratios(name), "memory": memory_ratio(name)}
        loads.append(os.getloadavg()[0])
    load = [round(min(loads), 1), round(max(loads), 1)]
    cores = os.cpu_count()
    results = {"torch": torch.__version__, "load": load, "cores": cores, "networks": found}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "criterion_cost.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "criterion_cost.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
