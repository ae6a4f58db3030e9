"""What measuring the criterion costs: in forward passes per seed, and in memory of training steps.

Usage: python benchmarks/criterion_cost.py

Time: CPU time of one thread; forward passes (as in training, recorded by autograd) and measurements
in turn; ratio of the medians. For comparison, what a training step itself takes (pass, gradient and
AdamW's step). Memory: growth of the resident set over one
AdamW step, and over one measurement with AdamW, each in a process of its own. Written to
benchmarks/results/criterion_cost.json and criterion_cost.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etastar.measure import measure_update
from etastar.models import build

RESULTS = Path(__file__).parent / "results"
METHODS = ("forward", "differences")
REPETITIONS = 9
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


def time_ratios(name: str) -> dict[str, float]:
    """Time of a measurement over that of a forward pass, by method."""
    network, batch = made(name)
    times: dict[str, list[float]] = {"pass": [], "step": [], **{method: [] for method in METHODS}}
    step = training_step(network, batch)
    for _ in range(REPETITIONS + 1):
        times["pass"].append(median(seconds(lambda: network(batch[0])) for _ in range(5)))
        times["step"].append(median(seconds(step) for _ in range(3)))
        for method in METHODS:
            times[method].append(
                seconds(
                    lambda method=method: measure_update(
                        network, batch, loss_fn, optimizer=adamw, method=method
                    )
                )
            )
    once = median(times["pass"][1:])  # the first of each warms up
    return {what: round(median(times[what][1:]) / once, 2) for what in ("step", *METHODS)}


def training_step(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
    """One step of AdamW, which has its moments in memory after the first."""
    optimizer = adamw(network)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss_fn(network(batch[0]), batch[1]))
        optimizer.step()

    return step


def kibibytes(field: str) -> int:
    """A line of the process's status: present or peak resident set."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def grown(name: str, what: str) -> None:
    """Print the growth of the peak resident set over a training step or a measurement, in KiB."""
    network, batch = made(name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (Linux)
    before = kibibytes("VmRSS")
    if what == "step":
        step = training_step(network, batch)
        step()
        step()
    elif what in METHODS:
        measure_update(network, batch, loss_fn, optimizer=adamw, method=what)  # type: ignore[arg-type]
    print(kibibytes("VmHWM") - before)


def memory(name: str, what: str) -> int:
    """The same, in a process of its own."""
    command = [sys.executable, __file__, "--grown", name, what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Cost of the criterion",
        "",
        f"PyTorch {results['torch']}, one thread, one seed, AdamW; {REPETITIONS} repetitions.",
        "",
        "| network | method | time in forward passes | a training step's | memory over a step's |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in results["networks"].items():
        for method in METHODS:
            cells = (row["time"][method], row["time"]["step"], row["memory"][method])
            lines.append(f"| {name} | {method} | {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grown", nargs=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.grown:
        grown(*options.grown)
        return
    found: dict[str, Any] = {}
    for name in NETWORKS:
        step = memory(name, "step")
        found[name] = {
            "time": time_ratios(name),
            "memory": {method: round(memory(name, method) / step, 2) for method in METHODS},
        }
    results = {"torch": torch.__version__, "networks": found}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "criterion_cost.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "criterion_cost.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
