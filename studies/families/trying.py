"""Every rule asked for its rate at the deepest size, and the rate trained there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from etastar.transfer.experience import Experience
from studies.experience import first_evidence
from studies.families.choosing import TUNED, choice_offers, tune_offers
from studies.families.curves import FamilyCurves
from studies.families.declared import SCALES, families_of
from studies.families.judging import outcomes, train_offers
from studies.families.knowing import (
    stored_family_experience,
    with_first_evidence,
    write_experience,
)
from studies.families.rules import Offer, offers
from studies.families.runs import FAMILY_RUNS, RunFile

if TYPE_CHECKING:
    from studies.families.declared import FamilyScale
    from studies.families.judging import Outcome


def known_to_choice(scale: FamilyScale, folder: Path = FAMILY_RUNS) -> Experience:
    """What the default choice knows: the stored exponents, and the first evidence beside them.

    Args:
        scale: The scale.
        folder: Where the families' runs are.

    Returns:
        Records of all families; a family is judged without its own.
    """
    families = stored_family_experience(folder, scale=scale.name)
    return with_first_evidence(families, first_evidence(FAMILY_RUNS.parent))


def ask(file: RunFile, known: Experience) -> tuple[Offer, ...]:
    """What every rule proposes for the deepest size of a family, and store it beside the runs.

    Args:
        file: Runs of the family: its base's curve is needed.
        known: To the default choice.

    Returns:
        Offers of all rules that fit; none without the base's curve.
    """
    curves = FamilyCurves(file)
    target = file.family.sizes(file.scale)[-1]
    found = (*offers(curves, target), *choice_offers(curves, target, known))
    if found and file.family.name in TUNED and len(file.scale.factors) > 2:
        log = file.path.with_suffix(".tune.log")
        found += tuple(tune_offers(curves, target, known, log))
    if found:
        rows = [asdict(one) | {"lr": one.lr if isfinite(one.lr) else None} for one in found]
        text = json.dumps(rows, indent=1, allow_nan=False)
        _path(file).write_text(f"{text}\n", encoding="utf-8")
    return found


def read_offers(file: RunFile) -> tuple[Offer, ...]:
    """What the rules proposed when they were asked last.

    Args:
        file: Runs of the family.

    Returns:
        Offers; none where the rules were not asked.
    """
    path = _path(file)
    if not path.exists():
        return ()
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        row["lr"] = inf if row["lr"] is None else row["lr"]
        row["interval"] = None if row["interval"] is None else tuple(row["interval"])
    return tuple(Offer(**row) for row in rows)


def stored_outcomes(scale: FamilyScale, folder: Path = FAMILY_RUNS) -> tuple[Outcome, ...]:
    """What the stored offers came to in the stored runs.

    Args:
        scale: The scale.
        folder: Where the runs are.

    Returns:
        Outcomes of all families whose rules were trained.
    """
    found: list[Outcome] = []
    for family in families_of(scale):
        file = RunFile(family, scale, folder)
        asked = read_offers(file)
        if asked:
            found += outcomes(file, family.sizes(scale)[-1], asked)
    return tuple(found)


def try_rules(
    scale: FamilyScale,
    names: Sequence[str] | None = None,
    *,
    only: Sequence[str] | None = None,
    workers: int = 2,
    folder: Path = FAMILY_RUNS,
) -> Iterator[str]:
    """Ask all rules and train their rates; what was trained is not trained again.

    Args:
        scale: The scale.
        names: Of families; all of the scale by default.
        only: Rules to train, where there is no time for all; every rule is asked and stored.
        workers: Processes, each of one thread.
        folder: Where runs are kept.

    Yields:
        Names of families that are done.
    """
    chosen = [f.name for f in families_of(scale) if names is None or f.name in names]
    write_experience(scale, folder)
    with ProcessPoolExecutor(workers) as pool:
        waiting = [pool.submit(_try, scale.name, folder, name, only) for name in chosen]
        for done in as_completed(waiting):
            yield done.result()


def _try(scale: str, folder: Path, name: str, only: Sequence[str] | None) -> str:
    torch.set_num_threads(1)
    chosen = SCALES[scale]
    family = next(family for family in families_of(chosen) if family.name == name)
    file = RunFile(family, chosen, folder)
    asked = ask(file, known_to_choice(chosen, folder))
    trained = [offer for offer in asked if only is None or offer.rule in only]
    train_offers(file, family.sizes(chosen)[-1], trained)
    return name


def _path(file: RunFile) -> Path:
    return file.path.with_suffix(".offers.json")
