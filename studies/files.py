"""The results folder of an experiment; what is written is compact and depends on the runs alone."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etastar.errors import MissingExtraError, StorageError
from etastar.sweep.recipe import format_size
from etastar.sweep.trial import TrialRecord
from studies.figure import exponent_figure
from studies.page import claim_data, evidence_page

if TYPE_CHECKING:
    from studies.records import Evidence, FamilyEvidence

_COLUMNS = "family stage size lr seed loss initial_loss diverged steps".split()


def require_plotly() -> None:
    """Refuse before hours of runs what would fail after them.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    if importlib.util.find_spec("plotly") is None:
        raise MissingExtraError("plotly", "plotly")


def write_evidence(evidence: Evidence, folder: str | os.PathLike[str]) -> None:
    """Write README.md, trials.csv, optima.json, fits.json, regret.json, study.json and the figure.

    Args:
        evidence: What the experiment came to.
        folder: An existing folder; files of an earlier run are replaced.

    Raises:
        MissingExtraError: Plotly is not installed.
        StorageError: A file cannot be written.
    """
    figure = exponent_figure(evidence)
    texts = {
        "README.md": evidence_page(evidence),
        "trials.csv": _trials(evidence),
        **{name: _json(data) for name, data in result_data(evidence).items()},
        "study.json": _json(_study(evidence)),
        "figure.json": figure.to_json() + "\n",
    }
    for name, text in texts.items():
        path = Path(folder) / name
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise StorageError(
                f"{path}: {error}", "a folder that can be written to", "give another --out"
            ) from error


def result_data(evidence: Evidence) -> dict[str, Any]:
    """What follows from the runs: optima, exponents with the claims, and regrets.

    Args:
        evidence: What the experiment came to.

    Returns:
        Plain data by the name of its file.
    """
    return {
        "optima.json": _optima(evidence),
        "fits.json": _fits(evidence),
        "regret.json": [row.as_dict() for row in evidence.regrets],
    }


def _json(data: Any) -> str:
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _trials(evidence: Evidence) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for family in evidence.families:
        for stage, trial in _runs(family):
            table.writerow(_trial_row(family.name, stage, trial))
    return text.getvalue()


def _runs(family: FamilyEvidence) -> Iterator[tuple[str, TrialRecord]]:
    yield from (("tune", trial) for size in family.sizes for trial in size.trials)
    yield from (("transfer", trial) for trial in family.transfers)


def _trial_row(family: str, stage: str, trial: TrialRecord) -> list[str]:
    return [
        family,
        stage,
        format_size(trial.size).replace(",", " "),
        repr(trial.point.lr),
        str(trial.point.seed),
        f"{trial.loss:.8g}",
        f"{trial.initial_loss:.8g}",
        str(int(trial.diverged)),
        str(trial.steps),
    ]


def _optima(evidence: Evidence) -> list[dict[str, Any]]:
    # runs of an experiment have no time limit: none was stopped
    return [
        {
            "family": family.name,
            **{key: value for key, value in one.as_dict().items() if key != "num_stopped"},
            "axes": {axis: values[place] for axis, values in family.axes},
        }
        for family in evidence.families
        for place, one in enumerate(family.sizes)
    ]


def _fits(evidence: Evidence) -> dict[str, Any]:
    return {
        "exponents": [
            {"family": family.name, "group": family.group, **fit.as_dict()}
            for family in evidence.families
            for fit in family.fits
        ],
        "claims": [claim_data(judgement) for judgement in evidence.judgements],
    }


def _study(evidence: Evidence) -> dict[str, Any]:
    return {
        "name": evidence.name,
        "title": evidence.title,
        "scale": evidence.scale,
        "papers": evidence.papers,
        "command": evidence.command,
        "versions": dict(evidence.versions),
        "notes": evidence.notes,
        "steps": evidence.steps,
        "families": {
            family.name: {"group": family.group, "steps": family.steps, **dict(family.settings)}
            for family in evidence.families
        },
    }
