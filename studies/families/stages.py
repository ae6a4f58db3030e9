"""What is run, in which order: curves first, then what rules propose, then shorter runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from math import isfinite, log2
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from etastar.transfer.experience import Parametrization
from studies.families.declared import FAMILIES, SCALES, families_of
from studies.families.runs import FAMILY_RUNS, RunFile
from studies.families.search import next_powers

if TYPE_CHECKING:
    from studies.families.declared import FamilyScale

Job = tuple[str, "Parametrization", int]
"""Family, parametrization, depth: one curve of the loss over the rate."""


def jobs(scale: FamilyScale) -> Iterator[tuple[Job, ...]]:
    """Curves in the order in which they are run; the jobs of one tuple follow one another.

    1. Every family's own initialization, at every depth: what the optimum does.
    2. `complete-p` at four and eight times the base; at the base it is the network's own.
    3. `stabilized` at the base, which is tuned anew, and at eight times the base.
    4. `depth-mup` at eight times the base.

    Args:
        scale: The scale.

    Yields:
        Jobs that one process runs.
    """
    chosen = families_of(scale)
    for family in chosen:
        yield tuple((family.name, "own", depth) for depth in family.sizes(scale))
    wanted: tuple[tuple[Parametrization, slice], ...] = (
        ("complete-p", slice(-2, None)),
        ("stabilized", slice(0, None, max(1, len(scale.factors) - 1))),
        ("depth-mup", slice(-1, None)),
    )
    for parametrization, part in wanted:
        for family in chosen:
            if parametrization in family.parametrizations:
                depths = list(family.sizes(scale)[part])
                if parametrization != "stabilized":  # the base is the network's own
                    depths = [d for d in depths if d != family.base_depth]
                yield tuple((family.name, parametrization, depth) for depth in depths)


def start_power(file: RunFile, parametrization: Parametrization, depth: int) -> int:
    """Where a curve's window begins: at the optimum of the depth before, or what is declared.

    Args:
        file: Runs of the family.
        parametrization: Of the curve.
        depth: Of the curve.

    Returns:
        A power of two.
    """
    sizes = file.family.sizes(file.scale)
    shallower = [d for d in sizes if d < depth]
    candidates = [(parametrization, d) for d in reversed(shallower)]
    own = [*shallower, depth] if parametrization != "own" else shallower
    candidates += [("own", d) for d in reversed(own)]
    for name, size in candidates:
        losses = file.losses((name, size, file.scale.num_steps))
        means = {lr: sum(run) / len(run) for lr, run in losses.items()}
        finite = {lr: mean for lr, mean in means.items() if isfinite(mean)}
        if finite:
            return round(log2(min(finite, key=lambda lr: finite[lr])))
    return file.family.start


def curve(file: RunFile, parametrization: Parametrization, depth: int) -> None:
    """Run the curve of one size until its optimum is enclosed.

    Args:
        file: Runs of the family.
        parametrization: Under which.
        depth: Of the size.
    """
    cell = (parametrization, depth, file.scale.num_steps)
    start = start_power(file, parametrization, depth)
    while powers := next_powers(start, _by_power(file, cell)):
        file.run(cell, [2.0**power for power in powers])


def _by_power(file: RunFile, cell: tuple[str, int, int]) -> dict[int, tuple[float, ...]]:
    """Losses at powers of two; rates that a rule proposed are not of the grid."""
    losses = file.losses(cell)
    return {round(log2(lr)): run for lr, run in losses.items() if log2(lr).is_integer()}


def _run(scale: str, folder: Path, chain: tuple[Job, ...]) -> tuple[Job, ...]:
    torch.set_num_threads(1)
    for name, parametrization, depth in chain:
        family = next(family for family in FAMILIES if family.name == name)
        curve(RunFile(family, SCALES[scale], folder), parametrization, depth)
    return chain


def run_jobs(
    scale: FamilyScale,
    chains: Iterable[tuple[Job, ...]] | None = None,
    *,
    workers: int = 2,
    folder: Path = FAMILY_RUNS,
) -> Iterator[tuple[Job, ...]]:
    """Run the curves of a scale; what was run is not run again.

    Args:
        scale: The scale.
        chains: Some of its `jobs`; all of them by default.
        workers: Processes, each of one thread.
        folder: Where runs are kept.

    Yields:
        Jobs that are done.
    """
    chains = jobs(scale) if chains is None else chains
    with ProcessPoolExecutor(workers) as pool:
        waiting = [pool.submit(_run, scale.name, folder, chain) for chain in chains]
        for done in as_completed(waiting):
            yield done.result()
