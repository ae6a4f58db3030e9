"""The demo: tune on a shallow network, train one six times deeper by every rule."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.experiments.demo_runs import Curve, DemoRuns
from etastar.experiments.demo_training import network_graph, run_of_plan, train
from etastar.fit import transfer_regret
from etastar.laws import LAWS
from etastar.report.demo_result import DemoNetwork, DemoResult, DemoRule, DemoSettings
from etastar.sweep.executors.workers import worker_pool
from etastar.transfer import Tuned, plan_transfer, read_architecture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from etastar.experiments.demo_training import DemoRun
    from etastar.laws import Architecture
    from etastar.report.demo_result import BranchInit, DemoCurve
    from etastar.transfer import TransferPlan

__all__ = ["DemoResult", "DemoSettings", "run_demo"]

REFERENCE = "own optimum"


def run_demo(
    *,
    settings: DemoSettings | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    workers: int = 2,
) -> DemoResult:
    """Tune a rate on a shallow network, carry it to a deep one by every law, and compare there.

    regret(rule) = mean loss at the rule's rate - mean loss at the target's own optimum, the mean
    training loss of the same budget and seeds. Networks are residual and convolutional, the data
    handwritten digits, the optimizer SGD with momentum. The order of events is fixed: the base is
    tuned under each initialization that a rule needs, the target under 1/K, then every rule and
    the target's own optimum are trained. No run is repeated or left out.

    Laws that act on the learning rate alone start from etastar's residual-aware initialization,
    variance 1/K on the branches at both sizes. Laws with a branch multiplier start from variance
    without K at both sizes, since the law brings the factor.

    Args:
        settings: Networks, budget, grids and seeds; None for the fixed ones of the demo.
        on_progress: Called with stage, runs done and runs in all, which the extension of a grid
            can raise.
        workers: Processes of one thread each; 0 for this process alone. The result is the same.

    Returns:
        Every run, the curves, and loss, accuracy and regret of each rule.

    Raises:
        TrialError: A setting is out of range.
        FitError: Every rate of a grid diverged, or training at the optimum did not lower the loss.

    Example:
        >>> few = DemoSettings(
        ...     base_blocks=1, target_blocks=2, width=4, num_steps=5, batch_size=16, seeds=(0,),
        ...     base_lrs=(0.02, 0.04), target_lrs=(0.02, 0.04), extension=0,
        ... )
        >>> result = run_demo(settings=few, workers=0)
        >>> [rule.name for rule in result.rules][0], result.reference.regret.regret
        ('effective-depth', 0.0)

    Source: docs/definitions.md, sections 4 and 5.
    """
    start = time.perf_counter()
    settings = settings or DemoSettings()
    with worker_pool(train, workers=workers) as pool:
        return _Demo(DemoRuns(settings, pool, on_progress or _silent)).result(start)


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""


class _Demo:
    """The stages of one demo."""

    def __init__(self, runs: DemoRuns) -> None:
        self.runs = runs
        self.settings = settings = runs.settings
        sizes = (settings.base_blocks, settings.target_blocks)
        graphs = [network_graph(blocks, settings.width) for blocks in sizes]
        self.base, self.target = (read_architecture(graph) for graph in graphs)

    def result(self, start: float) -> DemoResult:
        inits = dict.fromkeys(map(_branch_init, LAWS))
        base = self._tuned("tune the base", [Curve("base", init, self.runs) for init in inits])
        (target,) = self._tuned("tune the target", [Curve("target", "all", self.runs)])
        tuned = {curve.residual: curve.optimum.lr for curve in base}
        plans = {name: self._plan(name, tuned[_branch_init(name)]) for name in LAWS}
        self._train_rules(plans, target.optimum.lr)
        own, note = self._reference(target)
        return DemoResult(
            settings=self.settings,
            base=_network(self.settings.base_blocks, self.base),
            target=_network(self.settings.target_blocks, self.target),
            curves=(*base, target),
            rules=tuple(self._rule(name, plan, own) for name, plan in plans.items()),
            reference=self._judged(_Candidate(REFERENCE, REFERENCE, tuned["all"], own), own),
            reference_note=note,
            trials=self.runs.trials(),
            seconds=time.perf_counter() - start,
        )

    def _tuned(self, stage: str, curves: list[Curve]) -> list[DemoCurve]:
        pending = {curve: curve.wanted() for curve in curves}
        while any(pending.values()):
            self.runs.train(stage, {curve.use: runs for curve, runs in pending.items()})
            pending = {curve: curve.extend() for curve in curves}
        return [curve.record() for curve in curves]

    def _plan(self, law: str, base_lr: float) -> TransferPlan:
        return plan_transfer(Tuned(self.base, base_lr), self.target, optimizer="sgd", law=law)

    def _planned(self, name: str, plan: TransferPlan) -> list[DemoRun]:
        init = _branch_init(name)
        return [
            run_of_plan(plan, settings=self.settings, residual=init, seed=seed)
            for seed in self.settings.seeds
        ]

    def _train_rules(self, plans: Mapping[str, TransferPlan], own_lr: float) -> None:
        wanted = {f"rule {name}": self._planned(name, plan) for name, plan in plans.items()}
        wanted[REFERENCE] = self.runs.uniform("target", "all", own_lr)
        self.runs.train("train by every rule", wanted)

    def _reference(self, target: DemoCurve) -> tuple[list[DemoRun], str | None]:
        """Runs at the target's own optimum; at the grid's lowest rate where these diverged."""
        found = target.optimum
        runs = self.runs.uniform("target", "all", found.lr)
        if all(math.isfinite(loss) for loss in self.runs.losses(runs)):
            return runs, None
        note = f"at the fitted optimum {found.lr:.3g} a seed diverged: the grid's lowest is taken"
        return self.runs.uniform("target", "all", found.lowest_lr), note

    def _rule(self, name: str, plan: TransferPlan, own: list[DemoRun]) -> DemoRule:
        others = sorted({entry.lr for entry in plan.parameters} - {plan.lr})
        runs = self._planned(name, plan)
        candidate = _Candidate(name, str(plan.laws[0]), plan.base.lr, runs, tuple(others))
        return self._judged(candidate, own)

    def _judged(self, rule: _Candidate, own: list[DemoRun]) -> DemoRule:
        outcomes = [self.runs[run] for run in rule.runs]
        return DemoRule(
            name=rule.name,
            law=rule.law,
            base_lr=rule.base_lr,
            lr=rule.runs[0].lr,
            other_lrs=rule.other_lrs,
            residual=rule.runs[0].residual,
            mean_losses=self.runs.losses(rule.runs),
            final_losses=tuple(outcome.final_loss for outcome in outcomes),
            accuracies=tuple(outcome.evaluation for outcome in outcomes),
            regret=transfer_regret(
                self.runs.losses(rule.runs),
                self.runs.losses(own),
                initial_losses=[self.runs[run].initial_loss for run in own],
                confidence=self.settings.confidence,
                num_resamples=self.settings.num_resamples,
            ),
        )


@dataclass(frozen=True)
class _Candidate:
    """A rule and its runs, before it is judged."""

    name: str
    law: str
    base_lr: float
    runs: list[DemoRun]
    other_lrs: tuple[float, ...] = ()


def _network(blocks: int, architecture: Architecture) -> DemoNetwork:
    report = architecture.report
    return DemoNetwork(blocks, report.effective_depth, report.residual_additions)


def _branch_init(law: str) -> BranchInit:
    """Variance without K for a law that brings a branch multiplier, else 1/K."""
    return "none" if "branch multiplier" in LAWS[law].effects else "all"
