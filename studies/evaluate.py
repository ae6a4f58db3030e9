"""Evaluate stored experiments again, from their stored runs, and compare with what is stored.

Run as `python -m studies.evaluate [NAME ...]`; the exit code says whether all agrees. Optima,
exponents, claims and regrets are computed from trials.csv. Losses stand there with eight digits, so
numbers agree to a relative `RTOL`, or an absolute `ATOL` where they are differences. A
relative regret is a difference of losses over another, the gain, and agrees to `ROUNDING` over it.

Rates that rules proposed are computed again where the rule computes (laws, the power law through
tuned sizes). Those of rules that train or measure are taken as stored, and what came of them is
evaluated. The experiment that trains nothing, mlp-criterion, is measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etastar.sweep.recipe import Point, Size, parse_size
from etastar.sweep.result import SizeResult, size_optimum
from etastar.sweep.trial import TrialRecord
from studies.declaration import CriterionFamily
from studies.experiments.registry import EXPERIMENTS
from studies.exponents import family_fits
from studies.files import result_data
from studies.gathering import gather
from studies.records import Evidence, FamilyEvidence
from studies.reproduce import RESULTS
from studies.rules.computed import ByLaw, FittedRule, StructureRule
from studies.rules.registry import RULES
from studies.running import Workplace
from studies.transferring import Proposal, proposals, transfer_family, untrained
from studies.verdicts import judge

if TYPE_CHECKING:
    from studies.declaration import AnyFamily, Family, Scale

RTOL: Final = 1e-3
"""Where the loss curve is flat, its minimum moves by more than the losses were rounded by."""
REMEASURED: Final = 5e-3
"""The same for what is measured again in single precision."""
ATOL: Final = 1e-6
ROUNDING: Final = 1e-7
"""Of a difference of two losses below 10 that have eight digits each."""

_SAME_RATE: Final = 1e-4
"""Relative: rates are rounded to six digits after they were computed from unrounded losses."""

_COMPUTED: Final = tuple(
    rule.name for rule in RULES if isinstance(rule, (ByLaw, FittedRule, StructureRule))
)


@dataclass(frozen=True)
class Stored:
    """What is stored of an experiment.

    Attributes:
        runs: By family and stage ("tune" or "transfer").
        data: Contents of optima.json, fits.json and regret.json, by name.
    """

    runs: Mapping[tuple[str, str], tuple[TrialRecord, ...]]
    data: Mapping[str, Any]


def read_stored(folder: Path) -> Stored:
    """What is stored of an experiment.

    Args:
        folder: Of its results.

    Returns:
        Runs and results.
    """
    runs: dict[tuple[str, str], tuple[TrialRecord, ...]] = {}
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["family"], row["stage"])
            runs[key] = (*runs.get(key, ()), _record(row))
    names = ("optima.json", "fits.json", "regret.json")
    data = {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in names}
    return Stored(runs, data)


def _record(row: Mapping[str, str]) -> TrialRecord:
    return TrialRecord(
        size=parse_size(row["size"].replace(" ", ",")),
        point=Point(float(row["lr"]), int(row["seed"])),
        loss=float(row["loss"]),
        losses=(),
        diverged=row["diverged"] == "1",
        steps=int(row["steps"]),
        initial_loss=float(row["initial_loss"]),
    )


def evaluated(name: str, stored: Stored, *, scale: Scale = "cpu") -> Mapping[str, Any]:
    """Optima, exponents, claims and regrets of a declared experiment from its stored runs.

    Args:
        name: A key of `EXPERIMENTS`.
        stored: Its runs, and the rates that its rules proposed.
        scale: Of the declaration.

    Returns:
        What the files shall hold, by their names.
    """
    study = EXPERIMENTS[name](scale)
    families = tuple(_family(family, stored) for family in study.families)
    judgements = judge(study.claims, families)
    return result_data(
        Evidence(name, study.title, study.papers, scale, "", (), (), families, judgements)
    )


def _family(family: AnyFamily, stored: Stored) -> FamilyEvidence:
    if isinstance(family, CriterionFamily):
        return gather(family, Workplace())
    trials = stored.runs[family.name, "tune"]
    sizes = tuple(
        _size_result(size, [trial for trial in trials if trial.size == size])
        for size in family.sizes
    )
    axes, fits = family_fits(family, sizes)
    rates = [row for row in stored.data["regret.json"] if row["family"] == family.name]
    runs = stored.runs.get((family.name, "transfer"), ())
    regrets, _ = transfer_family(
        family, sizes, partial(_stored_runs, family, runs), propose=partial(_proposals, rates)
    )
    return FamilyEvidence(family.name, family.group, (), sizes, axes, fits, regrets)


def _size_result(size: Size, trials: Sequence[TrialRecord]) -> SizeResult:
    return SizeResult(size, tuple(trials), size_optimum(trials))


def _stored_runs(
    family: Family, runs: Sequence[TrialRecord], size: Size, lrs: Sequence[float]
) -> tuple[TrialRecord, ...]:
    """The stored runs at rates, in place of training; a rate that is not stored has diverged."""
    own = [run for run in runs if run.size == size]
    found: list[TrialRecord] = []
    for lr in lrs:
        near = [run for run in own if isclose(run.point.lr, lr, rel_tol=_SAME_RATE)]
        found += [replace(run, point=replace(run.point, lr=lr)) for run in near]
        if not near:
            found += untrained(size, lr, family.seeds)
    return tuple(found)


def _proposals(
    rows: Sequence[Mapping[str, Any]],
    family: Family,
    results: Mapping[Size, SizeResult],
    target: Size,
) -> tuple[Proposal, ...]:
    """The stored proposals; those of rules that compute are computed again."""
    allowed = _COMPUTED if family.rules is None else set(family.rules) & set(_COMPUTED)
    computed = {
        offer.label: offer
        for offer in proposals(replace(family, rules=tuple(allowed)), results, target)
    }
    stored = {row["rule"]: row for row in rows if row["target"] == dict(target)}
    offers = {label: computed.get(label) or _stored_proposal(row) for label, row in stored.items()}
    return tuple({**offers, **computed}.values())


def _stored_proposal(row: Mapping[str, Any]) -> Proposal:
    bases = tuple(tuple(sorted(base.items())) for base in row["bases"])
    lr = inf if row["lr"] is None else row["lr"]
    return Proposal(row["rule"], bases, lr, row["cost_steps"])


def differences(
    stored: Any, found: Any, where: str = "", *, rtol: float = RTOL, atol: float = ATOL
) -> Iterator[str]:
    """Where two trees of plain data differ by more than rounding.

    Args:
        stored: What stands in a file.
        found: What was computed.
        where: Path to both, for the messages.
        rtol: Relative difference of numbers that is rounding.
        atol: Absolute difference of numbers that is rounding; more below a relative regret.

    Yields:
        A message for each difference.

    Example:
        >>> list(differences({"a": [1.0, 2]}, {"a": (1.0 + 1e-9, 3)}))
        ['a.1: stored 2, found 3']
    """
    prefix = f"{where}." if where else ""
    if isinstance(stored, dict) and isinstance(found, dict):
        for key in dict.fromkeys((*stored, *found)):
            rounding = _relative_rounding(stored) if key.startswith("relative") else atol
            yield from differences(
                stored.get(key), found.get(key), f"{prefix}{key}", rtol=rtol, atol=rounding
            )
    elif isinstance(stored, (list, tuple)) and isinstance(found, (list, tuple)):
        if len(stored) != len(found):
            yield f"{where}: stored {len(stored)} entries, found {len(found)}"
        for place, pair in enumerate(zip(stored, found, strict=False)):
            yield from differences(*pair, f"{prefix}{place}", rtol=rtol, atol=atol)
    elif isinstance(stored, float) and isinstance(found, float):
        if not isclose(stored, found, rel_tol=rtol, abs_tol=atol):
            yield f"{where}: stored {stored!r}, found {found!r}"
    elif stored != found:
        yield f"{where}: stored {stored!r}, found {found!r}"


def _relative_rounding(row: Mapping[str, Any]) -> float:
    """What rounding of losses may change in the relative regret of a row: regret over gain."""
    if not row["regret"] or not row["relative"]:
        return ATOL
    ends: list[float] = [abs(end) for end in (row["relative"], *(row["relative_interval"] or ()))]
    gain: float = row["regret"] / row["relative"]
    return max(ATOL, ROUNDING * (1 + max(ends)) / gain)


def evaluate(folder: Path, name: str, *, scale: Scale = "cpu") -> tuple[str, ...]:
    """Evaluate a stored experiment again.

    Args:
        folder: Of its results.
        name: A key of `EXPERIMENTS`.
        scale: Of the declaration.

    Returns:
        A message for each difference.
    """
    stored = read_stored(folder)
    rtol = RTOL if stored.runs else REMEASURED
    return tuple(differences(stored.data, evaluated(name, stored, scale=scale), rtol=rtol))


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate stored experiments, and print where they differ.

    Args:
        arguments: Of the command line; None for the process's own.

    Returns:
        0, or 1 where something differs.
    """
    parser = argparse.ArgumentParser(prog="python -m studies.evaluate", description=__doc__)
    parser.add_argument("names", nargs="*", help="experiments; all that are stored, if none")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--scale", default="cpu")
    options = parser.parse_args(arguments)
    known = [name for name in EXPERIMENTS if (options.results / name / options.scale).is_dir()]
    wrong = 0
    for name in options.names or known:
        found = evaluate(options.results / name / options.scale, name, scale=options.scale)
        wrong += len(found)
        sys.stdout.write("\n  ".join((f"{name}: {len(found)} differences", *found)) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
