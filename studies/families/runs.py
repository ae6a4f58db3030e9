"""The runs of a family: one line of a file each, appended when it ends; nothing is run twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from etastar.sweep.recipe import Point
from etastar.sweep.trial import run_trial
from etastar.transfer.experience import Parametrization
from studies.families.recipes import network_recipe

if TYPE_CHECKING:
    from studies.families.declared import FamilyScale, NetworkFamily

FAMILY_RUNS: Final = Path(__file__).parents[1] / "results" / "families"
"""A folder for each scale, a file for each family."""


@dataclass(frozen=True)
class FamilyRun:
    """One training run.

    Attributes:
        parametrization: Under which.
        depth: Blocks or layers.
        num_steps: Of the run, with its whole schedule.
        lr: Peak rate.
        seed: Of initialization and batches.
        loss: Mean over the last tenth of the steps; +inf of a diverged run.
        initial_loss: Of the first batch.
        steps: Taken; fewer than `num_steps` where it diverged.
    """

    parametrization: Parametrization
    depth: int
    num_steps: int
    lr: float
    seed: int
    loss: float
    initial_loss: float
    steps: int

    @property
    def cell(self) -> tuple[str, int, int]:
        """Parametrization, depth and steps: what shares a curve."""
        return self.parametrization, self.depth, self.num_steps


class RunFile:
    """All runs of a family at one scale.

    Args:
        family: The family.
        scale: The scale.
        folder: Where the file lies or will lie.
    """

    def __init__(
        self, family: NetworkFamily, scale: FamilyScale, folder: Path = FAMILY_RUNS
    ) -> None:
        self.family = family
        self.scale = scale
        self.path = folder / scale.name / f"{family.name}.jsonl"

    def read(self) -> tuple[FamilyRun, ...]:
        """Every finished run, in the order of ending; a line cut by a kill is left out."""
        if not self.path.exists():
            return ()
        runs = []
        for line in self.path.read_text().splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            fields["loss"] = inf if fields["loss"] is None else fields["loss"]
            runs.append(FamilyRun(**fields))
        return tuple(runs)

    def losses(self, cell: tuple[str, int, int]) -> dict[float, tuple[float, ...]]:
        """Losses by rate, of the rates that have every seed."""
        found: dict[float, dict[int, float]] = {}
        for run in self.read():
            if run.cell == cell:
                found.setdefault(run.lr, {})[run.seed] = run.loss
        seeds = self.scale.seeds
        return {
            lr: tuple(by_seed[seed] for seed in seeds)
            for lr, by_seed in sorted(found.items())
            if set(seeds) <= set(by_seed)
        }

    def run(self, cell: tuple[Parametrization, int, int], rates: Iterable[float]) -> None:
        """Train a cell at rates with every seed, but for what is there already.

        Args:
            cell: Parametrization, depth and steps.
            rates: Peak rates.
        """
        parametrization, depth, num_steps = cell
        done = {(run.lr, run.seed) for run in self.read() if run.cell == cell}
        recipe = network_recipe(self.family, self.scale, parametrization, num_steps=num_steps)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a") as cut:  # a line that a kill cut short ends here
                cut.write("\n")
        for lr in rates:
            for seed in self.scale.seeds:
                if (lr, seed) in done:
                    continue
                record = run_trial(recipe, (("depth", depth),), Point(lr, seed))
                run = FamilyRun(
                    *(parametrization, depth, num_steps, lr, seed),
                    loss=record.loss,
                    initial_loss=record.initial_loss,
                    steps=record.steps,
                )
                self._append(run)

    def _append(self, run: FamilyRun) -> None:
        fields = asdict(run)
        if run.loss == inf:
            fields["loss"] = None
        with self.path.open("a") as file:  # one write of one line: two processes do not mix
            file.write(json.dumps(fields, allow_nan=False) + "\n")
