"""Executors beside a plain sequential loop: processes with two workers, and batched.

Usage: python benchmarks/executors.py [--repetitions N] [--steps N] [--executors NAME ...]

The same points of the same network, run by each executor in turn, N times interleaved, so that
other work on the machine falls on all of them, and every other time in the reverse order, so that
what one leaves behind for the next (memory, a warm cache) falls on more than one. (In the first six
runs, which are kept, the loop always came right after the vectorised runs, and `batched` after the
processes.) Every process has one thread. Written to benchmarks/results/executors.json and
executors.md: ratios of sequential to executor, the median over repetitions with lowest and highest;
above 1 the executor is faster. Wall clock is disturbed by whatever else the machine does; CPU time
is less so, and for `batched`, which is one process, says the same. For `processes` the ratio of CPU
times is what its speed-up is divided by: 2 x (that ratio) is the most that two free cores can give.
With `--executors` only those rows are measured again and the others stay; each says how loaded the
machine was when it was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etastar.datasets import load
from etastar.models import build
from etastar.sweep.executors import Executor, get_executor
from etastar.sweep.executors.batched import Batched
from etastar.sweep.space import Budget, Experiment, Point, Size

RESULTS = Path(__file__).parent / "results"
WORKERS = 2
LRS = (2.0**-12, 2.0**-10, 2.0**-8, 2.0**-6)
SEEDS = (0, 1)
LABELS = ("processes", "batched", "always vectorised")
POINTS = tuple(Point(lr, seed) for lr in LRS for seed in SEEDS)


@dataclass(frozen=True)
class Network:
    """What is trained: a model of the zoo, its data, size and optimizer."""

    model: str
    data: str
    size: Size
    optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW


NETWORKS = {
    "MLP": Network("mlp", "digits", (("depth", 6), ("width", 64))),
    "residual CNN": Network("resnet", "digits", (("depth", 6), ("width", 16))),
    "GPT": Network("gpt", "stdlib-text", (("depth", 2), ("width", 32))),
    "MLP by SGD": Network("mlp", "digits", (("depth", 6), ("width", 64)), torch.optim.SGD),
    "GPT by SGD": Network("gpt", "stdlib-text", (("depth", 2), ("width", 32)), torch.optim.SGD),
    "MLP of width 256": Network("mlp", "digits", (("depth", 6), ("width", 256))),
}
"""The last three, which came after five runs of the others, are those on which `batched` is likely
to be slower than a loop: an optimizer with little to gain from, a model beyond a cache."""


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the next token at every position."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def make_optimizer(
    kind: type[torch.optim.Optimizer], model: nn.Module, lr: float
) -> torch.optim.Optimizer:
    """An optimizer as PyTorch sets it, but for its learning rate."""
    return kind(model.parameters(), lr=lr)


def experiment(name: str, num_steps: int) -> tuple[Experiment, Size]:
    """Training of one of the networks."""
    network = NETWORKS[name]
    return Experiment(
        factory=partial(build, network.model),
        batches=load(network.data).batches,
        loss_fn=token_loss if network.model == "gpt" else F.cross_entropy,
        make_optimizer=partial(make_optimizer, network.optimizer),
        budget=Budget(num_steps, 32),
    ), network.size


def cpu_seconds() -> float:
    """CPU time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_of_children(executor: Executor) -> float:
    """CPU time so far of the processes that an executor holds (Linux)."""
    pool = getattr(executor, "_pool", None)
    ticks = 0
    for worker in pool._workers if pool is not None else ():
        fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(executor: Executor, run: Callable[[Executor], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a run, its worker processes' CPU among them."""
    start, cpu, children = time.perf_counter(), cpu_seconds(), cpu_of_children(executor)
    run(executor)
    spent = cpu_seconds() - cpu + cpu_of_children(executor) - children
    return time.perf_counter() - start, spent


def measure(
    name: str, num_steps: int, repetitions: int, labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Rows of one network."""
    wanted, size = experiment(name, num_steps)

    def run(executor: Executor) -> None:
        assert len(list(executor.run(wanted, size, POINTS))) == len(POINTS)

    sequential, before = get_executor("sequential"), os.getloadavg()[0]
    list(sequential.run(wanted, size, POINTS[:1]))
    rows, notes = [], []
    with ExitStack() as stack:
        processes = None
        if "processes" in labels:
            processes = stack.enter_context(get_executor("processes", workers=WORKERS))
            list(processes.run(wanted, size, POINTS[:WORKERS]))  # its processes start here
        for repetition in range(repetitions):
            # both are new each time: the probe is a part of what batched costs
            batched, forced = Batched(), Batched(probe_steps=0)
            executors = dict(zip(LABELS, (processes, batched, forced), strict=True))
            order = ["sequential", *labels][:: -1 if repetition % 2 else 1]
            times = {label: timed(executors.get(label, sequential), run) for label in order}
            rows.append([(times["sequential"], times[label]) for label in labels])
            notes.append(batched.note)
    load = [round(load, 1) for load in (before, os.getloadavg()[0])]
    found: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(labels):
        pairs = [row[index] for row in rows]
        found[label] = {
            "wall": spread([base[0] / other[0] for base, other in pairs]),
            "cpu": spread([base[1] / other[1] for base, other in pairs]),
            "repetitions": repetitions,
            "load": load,
        }
    if "batched" in found:
        found["batched"]["picked"] = [way_in(note) for note in notes]
    return found


def way_in(note: str) -> str:
    """How `batched` trained, from its note: "depth=2: in turn, since ..."."""
    return note.partition(": ")[2].partition(", since")[0] or "vectorised"


def spread(ratios: list[float]) -> list[float]:
    """Median, lowest and highest."""
    return [round(value, 2) for value in (median(ratios), min(ratios), max(ratios))]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Executors beside a sequential loop",
        "",
        f"PyTorch {results['torch']}, {results['cores']} cores, one thread per process, "
        f"{len(POINTS)} runs of {results['steps']} steps, interleaved repetitions.",
        "Ratio of sequential to executor, median (lowest to highest); above 1 is faster. Load of",
        "the machine before and after: on a busy one, CPU time is the better measure.",
        "",
        "| network | executor | wall clock | CPU time | picked | repetitions | load |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in results["networks"].items():
        for label, found in row.items():
            cells = [f"{m} ({low} to {high})" for m, low, high in (found["wall"], found["cpu"])]
            cells.append(", ".join(found.get("picked", [])))
            load = " to ".join(map(str, found["load"]))
            lines.append(
                f"| {name} | {label} | {' | '.join(cells)} | {found['repetitions']} | {load} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=6)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--executors", nargs="+", choices=LABELS, default=LABELS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / "executors.json"
    networks: dict[str, Any] = {name: {} for name in NETWORKS}
    if set(options.executors) < set(LABELS):
        before = json.loads(file.read_text())
        if before["steps"] != options.steps:
            parser.error(f"the other rows are of {before['steps']} steps: give --steps, or all")
        networks = before["networks"]
    for name in NETWORKS:
        networks[name] |= measure(name, options.steps, options.repetitions, options.executors)
    results = {
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "steps": options.steps,
        "networks": networks,
    }
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "executors.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
