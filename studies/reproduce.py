"""Run a named experiment at a scale, and keep what it came to in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, get_args

from etastar.errors import ModelSpecError
from etastar.sweep.executors import Executor
from etastar.sweep.result import Progress
from etastar.sweep.trial import running_versions
from studies.declaration import Family, Scale
from studies.experiments.registry import EXPERIMENTS
from studies.files import require_plotly, write_evidence
from studies.gathering import gather
from studies.records import Evidence
from studies.rules import rules_of
from studies.running import Workplace
from studies.verdicts import judge

if TYPE_CHECKING:
    from studies.declaration import Study

RESULTS: Final = Path("studies", "results")
"""Of all experiments, from the root of the repository."""

JOURNAL: Final = "runs.journal"
"""The store of the runs in the results folder, from which an interrupted experiment goes on."""


@dataclass(frozen=True)
class Reproduction:
    """An experiment that was run, and where its results are."""

    evidence: Evidence
    folder: Path


def reproduce(
    name: str,
    *,
    scale: str = "cpu",
    out: str | os.PathLike[str] = RESULTS,
    storage: str | None = None,
    workers: int | Executor = 0,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> Reproduction:
    """Run a named experiment, or the part of it that has not been run, and write its results.

    Args:
        name: A key of `EXPERIMENTS`.
        scale: "smoke", "cpu" or "paper".
        out: Folder of all results; those of this one go to NAME/SCALE in it.
        storage: Journal file or database URL of the runs; None for a journal in that folder.
        workers: Processes that train, 0 for this one; or an executor.
        on_progress: Called with a family's name and the progress of its sweep.

    Returns:
        The evidence and its folder.

    Raises:
        ModelSpecError: The name or the scale is unknown.
        MissingExtraError: Plotly, or a package of a rule, is not installed.
        TrialError: A run raised; what is finished is kept.
        StorageError: The store is of another declaration, or cannot be read or written.
    """
    if name not in EXPERIMENTS or scale not in get_args(Scale):
        raise ModelSpecError(
            f"experiment {name!r} at scale {scale!r}",
            f"one of: {', '.join(EXPERIMENTS)}; at {', '.join(get_args(Scale))}",
            "choose a listed one",
        )
    require_plotly()
    study: Study = EXPERIMENTS[name](cast("Scale", scale))
    _require_packages(study)
    folder = Path(out) / name / scale
    folder.mkdir(parents=True, exist_ok=True)
    work = Workplace(
        storage=storage or folder / JOURNAL,
        workers=workers,
        on_progress=on_progress,
    )
    evidence = run_study(study, work)
    write_evidence(evidence, folder)
    return Reproduction(evidence, folder)


def _require_packages(study: Study) -> None:
    """Refuse at once what a rule would miss after hours of runs."""
    transferred = [one for one in study.families if isinstance(one, Family) and one.targets]
    for rule in dict.fromkeys(rule for one in transferred for _, rule in rules_of(one)):
        rule.require()


def run_study(study: Study, work: Workplace) -> Evidence:
    """Run the families of a study one after the other, and judge its claims.

    Args:
        study: The declaration.
        work: Where to train and to keep.

    Returns:
        The evidence.
    """
    families = tuple(gather(family, work) for family in study.families)
    return Evidence(
        name=study.name,
        title=study.title,
        papers=study.papers,
        scale=study.scale,
        command=f"python -m studies {study.name} --scale {study.scale}",
        versions=running_versions(),
        notes=study.notes,
        families=families,
        judgements=judge(study.claims, families),
    )
