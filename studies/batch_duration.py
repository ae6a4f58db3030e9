"""Batch size and duration: does the tuned rate follow the laws? Declared before any run.

`gpt` (2 blocks, width 64, bytes of Python's library, AdamW with decoupled decay 0.1 on matrices,
gradients clipped at norm 1) and `resnet-bn` (1 block a stage, width 16, Fashion-MNIST, SGD with
momentum 0.9, decay 5e-4 on matrices) as in `studies.families`: warm-up over a tenth of the steps,
cosine to a tenth of the rate, loss of the last tenth of the steps, every example seen once.

- **Changes**: gpt, batch 8 to 64 at equal data (2,400 to 300 steps); gpt, 300 to 2,400 steps at
  equal batch 8; resnet-bn, batch 32 to 256 at equal data (1,800 to 225 steps).
- **Grid**: both ends of each change are tuned with all else kept: powers of two, three seeds, until
  two rates below the lowest mean loss and one above were run (`studies.families.search`). A rate at
  which a seed diverged counts as +inf. The optimum is that of `etastar.fit.find_optimum`.
- **Arms**, from the optimum of the change's base, trained at its target with the three seeds:
  *laws*, `batch-size` and `duration` with all that they scale; *keep*, every setting of the base;
  *rate*, the laws' factor on the rate alone. For SGD *laws* and *rate* are one.
- **Regret**: mean loss minus the lowest mean loss that any run of the target reached, grid or arm,
  over what that gained from the first batch's loss. Beside it the loss minus that of *keep*, seed
  by seed, with its standard error.
- **What it decides**: `law="auto"` takes a law of training by itself when in every change of that
  law *laws* ends lower than *keep* by more than two standard errors, and within 2% of regret. Else
  it stays a law that is asked for. Nothing is run again, left out or chosen by its outcome.

Cost on one core: gpt 15 minutes of grids and 9 of arms, resnet-bn 16: about 40 minutes.
`python -m studies.batch_duration --workers 1` runs it, or goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from math import inf, isfinite, log2
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F

from etastar import Recipe, Target, Tuned, plan_transfer
from etastar.datasets import Dataset
from etastar.fit import find_optimum
from etastar.laws import BatchSize, Duration, Law
from etastar.sweep.recipe import Point
from etastar.sweep.trial import run_trial
from studies.batch_duration_page import change_page
from studies.data_sets import load_named
from studies.families.declared import FAMILIES, SCALES
from studies.families.recipes import family_graph, warmup_cosine
from studies.families.search import next_powers

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrainingCell:
    """A family trained in one way: batch size and steps."""

    family: str
    batch_size: int
    num_steps: int


@dataclass(frozen=True)
class Change:
    """From how a family was tuned to how it is trained."""

    name: str
    base: TrainingCell
    target: TrainingCell


ARMS: Final[Mapping[str, tuple[str | Law, ...]]] = MappingProxyType(
    {
        "laws": ("batch-size", "duration"),
        "keep": ("constant",),
        "rate": (BatchSize(scales="rate"), Duration(scales="rate")),
    }
)
CHANGES: Final[Mapping[str, tuple[Change, ...]]] = MappingProxyType(
    {
        "cpu": (
            Change("gpt steps", TrainingCell("gpt", 8, 300), TrainingCell("gpt", 8, 2400)),
            Change("gpt batch", TrainingCell("gpt", 8, 2400), TrainingCell("gpt", 64, 300)),
            Change(
                "resnet-bn batch",
                TrainingCell("resnet-bn", 32, 1800),
                TrainingCell("resnet-bn", 256, 225),
            ),
        ),
        "smoke": (
            Change("gpt steps", TrainingCell("gpt", 2, 2), TrainingCell("gpt", 2, 4)),
            Change("gpt batch", TrainingCell("gpt", 2, 4), TrainingCell("gpt", 4, 2)),
        ),
    }
)
STUDY_RUNS: Final = Path(__file__).parent / "results" / "batch_duration"


def arms_of(change: Change) -> tuple[str, ...]:
    """Arms that differ from each other: SGD's laws scale the rate alone."""
    sgd = _family(change.base).optimizer == "sgd"
    return tuple(arm for arm in ARMS if not (sgd and arm == "rate"))


@dataclass(frozen=True)
class TrainingRun:
    """One run.

    Attributes:
        family: Of the network.
        batch_size: Examples in a batch.
        num_steps: Of the run.
        arm: "grid", or the change and the arm, "gpt batch: laws".
        lr: Peak rate.
        seed: Of initialization and batches.
        loss: Mean over the last tenth of the steps; +inf of a diverged run.
        initial_loss: Of the first batch.
    """

    family: str
    batch_size: int
    num_steps: int
    arm: str
    lr: float
    seed: int
    loss: float
    initial_loss: float

    @property
    def cell(self) -> TrainingCell:
        """What it was trained as."""
        return TrainingCell(self.family, self.batch_size, self.num_steps)


class TrainingRuns:
    """All runs of a scale: a line of a file each, appended when it ends; none is run twice.

    Args:
        scale: Name of the scale.
        folder: Where the scale's folder lies or will lie.
    """

    def __init__(self, scale: str, folder: Path = STUDY_RUNS) -> None:
        self.scale = scale
        self.path = folder / scale / "runs.jsonl"

    def read(self) -> tuple[TrainingRun, ...]:
        """Every finished run; a line that a kill cut short is left out."""
        found = []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            fields["loss"] = inf if fields["loss"] is None else fields["loss"]
            found.append(TrainingRun(**fields))
        return tuple(found)

    def losses(self, cell: TrainingCell, arm: str = "grid") -> dict[float, tuple[float, ...]]:
        """Losses by rate, of the rates that have every seed."""
        by_rate: dict[float, dict[int, float]] = {}
        for run in self.read():
            if (run.cell, run.arm) == (cell, arm):
                by_rate.setdefault(run.lr, {})[run.seed] = run.loss
        seeds = SCALES[self.scale].seeds
        return {
            lr: tuple(by_seed[seed] for seed in seeds)
            for lr, by_seed in sorted(by_rate.items())
            if set(seeds) <= set(by_seed)
        }

    def optimum(self, cell: TrainingCell) -> float:
        """The tuned rate of a cell whose grid was run."""
        found = self.losses(cell)
        return find_optimum(list(found), list(found.values())).lr

    def train(self, cell: TrainingCell, lr: float, arm: str, settings: Mapping[str, Any]) -> None:
        """Train a cell at a rate with every seed, but for what is there already."""
        done = {run.seed for run in self.read() if (run.cell, run.arm, run.lr) == (cell, arm, lr)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a") as cut:
                cut.write("\n")
        for seed in SCALES[self.scale].seeds:
            if seed in done:
                continue
            depth = _family(cell).base_depth
            recipe = training_recipe(cell, self.scale, settings)
            record = run_trial(recipe, (("depth", depth),), Point(lr, seed))
            fields: dict[str, Any] = {**asdict(cell), "arm": arm, "lr": lr, "seed": seed}
            fields["loss"] = record.loss if isfinite(record.loss) else None
            fields["initial_loss"] = record.initial_loss
            with self.path.open("a") as file:
                file.write(json.dumps(fields, allow_nan=False) + "\n")


def _family(cell: TrainingCell) -> Any:
    return next(family for family in FAMILIES if family.name == cell.family)


def arm_settings(change: Change, arm: str, scale: str) -> dict[str, Any]:
    """What an arm changes: factor on the rate, and the settings of the target's optimizer.

    Args:
        change: The change.
        arm: Name of the arm.
        scale: Name of the scale.

    Returns:
        `lr` as a factor; weight decay, and betas and eps of AdamW.
    """
    family = _family(change.base)
    graph = family_graph(family.name, scale, family.base_depth)
    base, target = _ends(change)
    plan = plan_transfer(
        Tuned(
            graph,
            1e-3,
            weight_decay=_decay(base),
            batch_size=base.batch_size,
            num_steps=base.num_steps,
        ),
        Target(graph, batch_size=target.batch_size, num_steps=target.num_steps),
        optimizer=family.optimizer,
        law=ARMS[arm],
    )
    entry = next(p for p in plan.parameters if p.role == "hidden")
    settings = {"lr": entry.lr / 1e-3, "weight_decay": entry.weight_decay}
    return settings if entry.eps is None else {**settings, "betas": entry.betas, "eps": entry.eps}


def _ends(change: Change) -> tuple[TrainingCell, TrainingCell]:
    return change.base, change.target


def _decay(cell: TrainingCell) -> float:
    return 5e-4 if _family(cell).optimizer == "sgd" else 0.1


def training_recipe(cell: TrainingCell, scale: str, settings: Mapping[str, Any]) -> Recipe:
    """What a run is.

    Args:
        cell: The cell.
        scale: Name of the scale.
        settings: Of the optimizer beside the rate; what is missing is the family's own.

    Returns:
        The recipe.
    """
    data = _data(_family(cell).data, scale)
    return Recipe(
        partial(_model, cell, scale),
        lambda seed: _batches(data, cell, seed),
        F.cross_entropy,
        partial(_optimizer, cell, dict(settings)),
        num_steps=cell.num_steps,
        batch_size=cell.batch_size,
        schedule=warmup_cosine,
        objective="final",
    )


def _data(kind: str, scale: str) -> Dataset:
    chosen = SCALES[scale]
    if kind == "text":
        name, options = chosen.text_data
        return load_named(name, context=chosen.context, **options)
    return load_named(chosen.image_data[0])


def _batches(data: Dataset, cell: TrainingCell, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    return data.batches(seed + 1_000, cell.batch_size, cell.num_steps)


def _model(cell: TrainingCell, scale: str, depth: int) -> nn.Module:
    family, chosen = _family(cell), SCALES[scale]
    made: nn.Module = family.make(depth, round(family.width * chosen.widening), chosen)
    return made


def _optimizer(
    cell: TrainingCell, settings: dict[str, Any], model: nn.Module, lr: float, depth: int
) -> torch.optim.Optimizer:
    """The family's optimizer; no decay on vectors."""
    parameters = list(model.parameters())
    more = {"weight_decay": _decay(cell), **settings}
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], **more},
        {"params": [p for p in parameters if p.ndim < 2], **more, "weight_decay": 0.0},
    ]
    if _family(cell).optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9)
    optimizer = torch.optim.AdamW(groups, lr=lr)

    def clip(*_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)

    optimizer.register_step_pre_hook(clip)
    return optimizer


def _tune(scale: str, folder: Path, cell: TrainingCell) -> str:
    torch.set_num_threads(1)
    runs = TrainingRuns(scale, folder)
    while powers := next_powers(
        _family(cell).start, {round(log2(lr)): x for lr, x in runs.losses(cell).items()}
    ):
        for power in powers:
            runs.train(cell, 2.0**power, "grid", {})
    return f"{cell.family} {cell.batch_size} x {cell.num_steps}: {runs.optimum(cell):.4g}"


def _try(scale: str, folder: Path, change: Change) -> str:
    torch.set_num_threads(1)
    runs = TrainingRuns(scale, folder)
    for arm in arms_of(change):
        settings = arm_settings(change, arm, scale)
        lr = float(f"{runs.optimum(change.base) * settings.pop('lr'):.4g}")
        runs.train(change.target, lr, f"{change.name}: {arm}", settings)
    return change.name


def train_changes(scale: str, *, workers: int = 1, folder: Path = STUDY_RUNS) -> Iterator[str]:
    """Tune both ends of every change, then train the arms, then write the page.

    Args:
        scale: Name of the scale.
        workers: Processes of one thread each.
        folder: Where runs are kept.

    Yields:
        What was done, in words.
    """
    changes = CHANGES[scale]
    cells = list(dict.fromkeys(cell for change in changes for cell in _ends(change)))
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(partial(_tune, scale, folder), cells)
        yield from pool.map(partial(_try, scale, folder), changes)
    runs = TrainingRuns(scale, folder)
    page = runs.path.parent / "README.md"
    page.write_text(change_page(changes, runs, arms_of), encoding="utf-8")
    yield str(page)


def main() -> None:
    """Run the study of a scale, or go on."""
    parser = argparse.ArgumentParser(prog="python -m studies.batch_duration")
    parser.add_argument("--scale", choices=list(CHANGES), default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    given = parser.parse_args()
    for line in train_changes(given.scale, workers=given.workers):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
