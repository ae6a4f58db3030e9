"""The regret stage: every rule's rate is trained at every target, and compared with its optimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from etastar.fit import transfer_regret
from etastar.sweep.recipe import Point, Size
from etastar.sweep.result import SizeResult
from etastar.sweep.trial import TrialRecord
from studies.network import network_architecture
from studies.records import RegretRow
from studies.rules.base import Question, TunedSize
from studies.rules.registry import rules_of

if TYPE_CHECKING:
    from studies.declaration import Family
    from studies.rules.base import Rule

    TrainRates = Callable[[Size, tuple[float, ...]], tuple[TrialRecord, ...]]
    """Trains a size at rates with all seeds."""

    Propose = Callable[[Family, Mapping[Size, SizeResult], Size], tuple["Proposal", ...]]
    """What each rule proposes for a target."""


@dataclass(frozen=True)
class Proposal:
    """A rate that a rule carries to a target, before it is trained there."""

    label: str
    bases: tuple[Size, ...]
    lr: float
    cost_steps: int


def proposals(
    family: Family, results: Mapping[Size, SizeResult], target: Size
) -> tuple[Proposal, ...]:
    """What each rule proposes for a target.

    Args:
        family: The declaration.
        results: The sweep of every size; the target's own is not looked at.
        target: Where to carry the rate to.

    Returns:
        A proposal for each rule that applies.
    """
    offers = []
    for label, rule in rules_of(family):
        bases = family.bases[: rule.num_bases]
        if len(bases) < rule.num_bases or target in bases:
            continue
        tuned = [_tuned(family, results[base]) for base in bases]
        known = tuple(one for one in tuned if one is not None)
        if len(known) < len(bases):
            continue
        offer = _proposal(label, rule, Question(family, known, target))
        offers += [] if offer is None else [offer]
    return tuple(offers)


def transfer_family(
    family: Family,
    tuned: Sequence[SizeResult],
    train: TrainRates,
    *,
    propose: Propose = proposals,
) -> tuple[tuple[RegretRow, ...], tuple[TrialRecord, ...]]:
    """Train every rule's rate at every target of a family.

    The target's own optimum is the better of the parabola's minimum and the lowest rate of its
    sweep, both trained with all seeds. Rates that the sweep has run with all seeds are not run
    again. A rule whose answer is no rate at all, 0 or infinite, counts as diverged.

    Args:
        family: The declaration.
        tuned: The sweep of every size.
        train: Trains rates at a size, with all seeds.
        propose: What the rules propose; `proposals` asks them.

    Returns:
        A row for each rule and target, and the runs made for them; no row where the target has no
        optimum.
    """
    results = {one.size: one for one in tuned}
    rows: list[RegretRow] = []
    runs: list[TrialRecord] = []
    for target in family.targets:
        found = results[target]
        if found.optimum is None:
            continue
        offers = propose(family, results, target)
        own = (_rounded(found.optimum.lr), found.optimum.lowest_lr)
        wanted = dict.fromkeys((*own, *(offer.lr for offer in offers)))
        known = _complete(found.trials, family.seeds)
        new = train(target, tuple(lr for lr in wanted if lr not in known and _is_rate(lr)))
        runs += new
        known |= _complete(new, family.seeds)
        known |= {lr: untrained(target, lr, family.seeds) for lr in wanted if not _is_rate(lr)}
        rows += _rows(family, target, offers, known, own)
    return tuple(rows), tuple(runs)


def _proposal(label: str, rule: Rule, question: Question) -> Proposal | None:
    lr = rule.rate(question)
    if lr is None:
        return None
    cost = sum(base.steps for base in question.bases) + rule.own_steps(question)
    return Proposal(label, tuple(base.size for base in question.bases), _rounded(lr), cost)


def _tuned(family: Family, result: SizeResult) -> TunedSize | None:
    if result.optimum is None:
        return None
    architecture = network_architecture(family.network, result.size)
    return TunedSize(result.size, architecture, result.optimum, result.steps)


def _rounded(lr: float) -> float:
    """Six digits, as the searches round."""
    return float(f"{lr:.6g}")


def _is_rate(lr: float) -> bool:
    return 0 < lr < inf


def untrained(size: Size, lr: float, seeds: Sequence[int]) -> tuple[TrialRecord, ...]:
    """What stands for runs at a rate that no optimizer takes, or that was never run.

    Args:
        size: Of the network.
        lr: The rate.
        seeds: One run for each.

    Returns:
        Diverged runs of no step.
    """
    return tuple(
        TrialRecord(size, Point(lr, seed), inf, (), diverged=True, steps=0, initial_loss=inf)
        for seed in seeds
    )


Runs = dict[float, tuple["TrialRecord", ...]]


def _complete(records: Sequence[TrialRecord], seeds: Sequence[int]) -> Runs:
    """Runs by rate, in the order of the seeds, of the rates that have all seeds."""
    by_point = {record.point: record for record in records}
    seeded: dict[float, dict[int, TrialRecord]] = {}
    for point, record in by_point.items():
        seeded.setdefault(point.lr, {})[point.seed] = record
    return {
        lr: tuple(runs[seed] for seed in seeds)
        for lr, runs in seeded.items()
        if set(seeds) <= set(runs)
    }


def _losses(runs: Sequence[TrialRecord]) -> list[float]:
    return [run.loss for run in runs]


def _reference(known: Runs, own: tuple[float, ...]) -> float | None:
    """The target's own best rate; if all of its own diverged with some seed, the best there is."""
    finite = {lr: float(np.mean(_losses(runs))) for lr, runs in known.items()}
    finite = {lr: loss for lr, loss in finite.items() if np.isfinite(loss)}
    candidates = [lr for lr in own if lr in finite] or list(finite)
    return min(candidates, key=lambda lr: finite[lr], default=None)


def _rows(
    family: Family,
    target: Size,
    offers: Sequence[Proposal],
    known: Runs,
    own: tuple[float, ...],
) -> list[RegretRow]:
    best = _reference(known, own)
    if best is None:
        return []
    reference = known[best]
    return [_row(family, target, offer, known[offer.lr], reference) for offer in offers]


def _row(
    family: Family,
    target: Size,
    offer: Proposal,
    runs: Sequence[TrialRecord],
    reference: Sequence[TrialRecord],
) -> RegretRow:
    losses, optimal = _losses(runs), _losses(reference)
    initial = [run.initial_loss for run in reference]
    learned = float(np.mean(initial)) > float(np.mean(optimal))
    return RegretRow(
        family=family.name,
        group=family.group,
        rule=offer.label,
        optimizer=family.optimizer.name,
        bases=offer.bases,
        target=target,
        ratio=max(value / dict(family.bases[0])[name] for name, value in target),
        lr=offer.lr,
        reference_lr=reference[0].point.lr,
        loss=float(np.mean(losses)),
        reference_loss=float(np.mean(optimal)),
        regret=transfer_regret(losses, optimal, initial_losses=initial if learned else None),
        cost_steps=offer.cost_steps,
    )
