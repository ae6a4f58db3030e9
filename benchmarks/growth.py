"""How the time for a block, for a layer of a plan and for a run grows with how many there are.

`python benchmarks/growth.py [--blocks 200 1000 4000] [--layers 200 1000 10000] [--runs 100 1000
10000]` prints a table for each with the ratio to the smallest. A residual block is captured, its
depth and roles read. The base of a plan has half of the target's layers. A run is
asked for, claimed and kept in a journal; a temporary folder in memory leaves the disk out. Seconds
are those of the processor, the least of a few looks.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable

import torch
from torch import nn

from etastar import Tuned, capture_graph, plan_transfer
from etastar.sweep.recipe import Point
from etastar.sweep.storage import as_store
from etastar.sweep.trial import TrialRecord

_SIZE = (("depth", 2),)
_LOOKS = 3
_AT_A_TIME = 20


def chain(num_layers: int) -> nn.Module:
    """Layers of one name pattern."""
    layers = (m for _ in range(num_layers) for m in (nn.Linear(4, 4), nn.ReLU()))
    return nn.Sequential(*layers)


class Block(nn.Module):
    """x + W2 relu(W1 norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As above."""
        return x + self.branch(x)


def block_seconds(num_blocks: int) -> float:
    """For a residual block that is captured, with depth and roles."""
    model, x = nn.Sequential(*(Block() for _ in range(num_blocks))), torch.zeros(1, 4)

    def read() -> None:
        graph = capture_graph(model, x)
        assert graph.depth().effective_depth > 0
        assert graph.parameters

    return seconds(read) / num_blocks


def seconds(call: Callable[[], object]) -> float:
    """The least processor time of a few calls."""
    times = []
    for _ in range(_LOOKS):
        gc.collect()
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def plan_seconds(num_layers: int) -> float:
    """For a layer of a plan between two captured graphs."""
    x = torch.zeros(1, 4)
    base, target = (capture_graph(chain(n), x) for n in (num_layers // 2, num_layers))
    tuned = Tuned(base, 0.1)
    for graph in (base, target):
        graph.depth()  # a graph is contracted once, which is capture's to count
    return seconds(lambda: plan_transfer(tuned, target, optimizer="sgd")) / num_layers


def run_seconds(counts: list[int]) -> list[float]:
    """For a run beside so many others."""
    found, number = [], 0
    with tempfile.TemporaryDirectory() as folder, as_store(f"{folder}/runs.log") as store:
        store.open({"model": "none"})

        def add() -> None:
            nonlocal number
            for _ in range(_AT_A_TIME):
                number += 1
                point = Point(1e-6 * number, 0)
                store.records(_SIZE)
                store.begin(_SIZE, [point])
                store.finish(TrialRecord(_SIZE, point, 1.0, (1.0,) * 20, False, 20, 1.0))

        for count in counts:
            while number < count:
                add()
            found.append(seconds(add) / _AT_A_TIME)
    return found


def show(what: str, counts: list[int], found: list[float]) -> None:
    """A row for each count."""
    print(f"| {what} | ms each | ratio to the smallest |\n| --- | --- | --- |")
    for count, one in zip(counts, found, strict=True):
        print(f"| {count} | {1e3 * one:.2f} | {one / found[0]:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="*", default=[200, 1000, 4000])
    parser.add_argument("--layers", type=int, nargs="*", default=[200, 1000, 10_000])
    parser.add_argument("--runs", type=int, nargs="*", default=[100, 1000, 10_000])
    given = parser.parse_args()
    if given.blocks:
        show("blocks", given.blocks, [block_seconds(n) for n in given.blocks])
    if given.layers:
        show("layers", given.layers, [plan_seconds(n) for n in given.layers])
    if given.runs:
        show("runs", given.runs, run_seconds(given.runs))


if __name__ == "__main__":
    main()
