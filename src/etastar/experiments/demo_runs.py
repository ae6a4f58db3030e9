"""The runs of one demo, each trained once, and the curves that are drawn from them."""

from __future__ import annotations

from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING

from etastar.experiments.demo_training import DemoRun
from etastar.fit import find_optimum
from etastar.report.demo_result import DemoCurve, DemoTrial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from etastar.report.demo_result import BranchInit, DemoSettings, Size
    from etastar.sweep import TrialResult
    from etastar.sweep.executors.workers import Workers

__all__ = ["Curve", "DemoRuns"]


class DemoRuns:
    """Trains what is asked for, each run once, and keeps all of it.

    Args:
        settings: Networks, budget, grids and seeds.
        pool: Who trains.
        on_progress: Called with stage, runs done and runs in all.
    """

    def __init__(
        self,
        settings: DemoSettings,
        pool: Workers[DemoRun, TrialResult],
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        self.settings = settings
        self._pool = pool
        self._on_progress = on_progress
        self._found: dict[DemoRun, TrialResult] = {}
        self._used_for: dict[DemoRun, list[str]] = {}
        self._counts: dict[str, tuple[int, int]] = {}

    def __getitem__(self, run: DemoRun) -> TrialResult:
        return self._found[run]

    def uniform(self, size: Size, residual: BranchInit, lr: float) -> list[DemoRun]:
        """One run for each seed, with one rate for all parameters."""
        s = self.settings
        blocks = s.base_blocks if size == "base" else s.target_blocks
        return [DemoRun(s, blocks, residual, lr, None, seed) for seed in s.seeds]

    def losses(self, runs: Sequence[DemoRun]) -> tuple[float, ...]:
        """Mean losses of runs that are done."""
        return tuple(self[run].mean_loss for run in runs)

    def train(self, stage: str, wanted: Mapping[str, Sequence[DemoRun]]) -> None:
        """Train what has not been trained yet.

        Args:
            stage: For `on_progress`; may be named again, its total then grows.
            wanted: What the runs are used for, and the runs.
        """
        for use, runs in wanted.items():
            for run in runs:
                self._used_for.setdefault(run, []).append(use)
        asked = dict.fromkeys(chain.from_iterable(wanted.values()))
        tasks = [run for run in asked if run not in self._found]
        self._advance(stage, done=0, more=len(tasks))
        for run, outcome in self._pool.outcomes(tasks):
            self._found[run] = outcome
            self._advance(stage, done=1, more=0)

    def _advance(self, stage: str, *, done: int, more: int) -> None:
        before, total = self._counts.get(stage, (0, 0))
        self._counts[stage] = before + done, total + more
        self._on_progress(stage, *self._counts[stage])

    def trials(self) -> tuple[DemoTrial, ...]:
        """Every run, in the order in which it was asked for."""
        return tuple(self._trial(run, uses) for run, uses in self._used_for.items())

    def _trial(self, run: DemoRun, uses: Sequence[str]) -> DemoTrial:
        outcome = self[run]
        return DemoTrial(
            size="base" if run.blocks == self.settings.base_blocks else "target",
            residual=run.residual,
            lr=run.lr,
            seed=run.seed,
            used_for=tuple(uses),
            initial_loss=outcome.initial_loss,
            mean_loss=outcome.mean_loss,
            final_loss=outcome.final_loss,
            steps_done=outcome.steps_done,
            diverged=outcome.diverged,
            accuracy=outcome.evaluation,
        )


class Curve:
    """Loss over a grid of rates, which may grow at either end by the rule of `DemoSettings`.

    Args:
        size: Which network.
        residual: How its branches are initialized.
        runs: Where its runs are trained.
    """

    def __init__(self, size: Size, residual: BranchInit, runs: DemoRuns) -> None:
        self._size = size
        self._residual = residual
        self._runs = runs
        grid = runs.settings.base_lrs if size == "base" else runs.settings.target_lrs
        self._lrs = list(grid)
        self._added_low: list[float] = []
        self._added_high: list[float] = []

    @property
    def use(self) -> str:
        """What its runs are used for."""
        return f"{self._size} curve, {self._residual}"

    def wanted(self) -> list[DemoRun]:
        """The runs of every rate so far."""
        return [run for lr in self._lrs for run in self._at(lr)]

    def extend(self) -> list[DemoRun]:
        """The runs of a rate that is added at an edge; none where the fixed rule asks for none.

        A curve on which every rate diverged counts as lowest at its lower edge.
        """
        means = [fmean(losses) for losses in self._losses()]
        lowest, room = means.index(min(means)), self._runs.settings.extension
        if lowest == 0 and len(self._added_low) < room:
            self._added_low.append(self._lrs[0] ** 2 / self._lrs[1])
            self._lrs.insert(0, self._added_low[-1])
            return self._at(self._lrs[0])
        if lowest == len(means) - 1 and len(self._added_high) < room:
            self._added_high.append(self._lrs[-1] ** 2 / self._lrs[-2])
            self._lrs.append(self._added_high[-1])
            return self._at(self._lrs[-1])
        return []

    def record(self) -> DemoCurve:
        """The curve with its minimum."""
        settings, losses = self._runs.settings, self._losses()
        return DemoCurve(
            size=self._size,
            residual=self._residual,
            lrs=tuple(self._lrs),
            losses=losses,
            added_lrs=tuple(sorted(self._added_low + self._added_high)),
            optimum=find_optimum(
                self._lrs,
                losses,
                confidence=settings.confidence,
                num_resamples=settings.num_resamples,
            ),
        )

    def _at(self, lr: float) -> list[DemoRun]:
        return self._runs.uniform(self._size, self._residual, lr)

    def _losses(self) -> tuple[tuple[float, ...], ...]:
        return tuple(self._runs.losses(self._at(lr)) for lr in self._lrs)
