"""Which mean of the criterion over seeds predicts: the geometric or the arithmetic one.

Run as `python -m studies.criterion_mean`. The smallest size of a stored family is the base; at each
larger one the tuned rate is compared with the base's times the ratio of eta*, measured in the
residual stream with seeds that no run of the family has. Sizes are split by the standard deviation
of log M over seeds. Written to studies/results/criterion_mean.json and criterion_mean.md; half an
hour on one core.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch

from studies.declaration import Family
from studies.experiments import horizon, mlp_trained, resnet
from studies.measuring import first_training_step
from studies.reproduce import RESULTS

_EXPERIMENTS = {"horizon": horizon, "mlp-trained": mlp_trained, "resnet": resnet}
_RESNETS = ("one-layer 1/K", "one-layer 1/K^2", "with BatchNorm", "with dropout")
_SEEDS = tuple(range(50, 66))
_WIDE_SPREAD = 1.5


def _rows(experiment: str) -> list[dict[str, Any]]:
    """M by seed at every size that was tuned."""
    optima = json.loads((RESULTS / experiment / "cpu" / "optima.json").read_text())
    families = [f for f in _EXPERIMENTS[experiment].study("cpu").families if isinstance(f, Family)]
    rows = []
    for family in families:
        if experiment == "resnet" and family.name not in _RESNETS:
            continue
        for one in [found for found in optima if found["family"] == family.name]:
            size = tuple(sorted(one["size"].items()))
            report = first_training_step(family, size, seeds=_SEEDS)
            rows.append(
                {
                    "experiment": experiment,
                    "family": family.name,
                    "size": one["size"],
                    "tuned": one["lr"],
                    "by_seed": report.by_seed,
                }
            )
    return rows


def _errors(rows: list[dict[str, Any]]) -> list[tuple[float, float, float]]:
    """Spread of log M, and log of predicted over tuned rate by either mean, beyond the base."""
    bases: dict[tuple[str, str], dict[str, Any]] = {}
    found = []
    for row in rows:
        base = bases.setdefault((row["experiment"], row["family"]), row)
        if base is row:
            continue
        tuned = np.log(row["tuned"] / base["tuned"])
        here, there = np.array(row["by_seed"]), np.array(base["by_seed"])
        typical = -0.5 * (np.log(here).mean() - np.log(there).mean())
        mean = -0.5 * np.log(here.mean() / there.mean())
        found.append((float(np.log(here).std(ddof=1)), typical - tuned, mean - tuned))
    return found


def _table(rows: list[dict[str, Any]]) -> str:
    """The errors as Markdown."""
    lines = [
        "# Which mean of the criterion over seeds predicts the tuned rate",
        "",
        f"{len(_SEEDS)} seeds; natural logarithm of predicted over tuned rate, from the smallest "
        "size of each family.",
        "",
        "| log M over seeds | sizes | mean over seeds | median size | root mean square | bias |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    errors = _errors(rows)
    for label, some in (
        (f"sd up to {_WIDE_SPREAD}", [e for e in errors if e[0] <= _WIDE_SPREAD]),
        (f"sd above {_WIDE_SPREAD}", [e for e in errors if e[0] > _WIDE_SPREAD]),
    ):
        for name, column in (("geometric", 1), ("arithmetic", 2)):
            own = np.array([error[column] for error in some])
            lines.append(
                f"| {label} | {len(own)} | {name} | {np.median(abs(own)):.2f} | "
                f"{np.sqrt((own**2).mean()):.2f} | {own.mean():+.2f} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, write and print."""
    torch.set_num_threads(1)
    rows = [row for experiment in _EXPERIMENTS for row in _rows(experiment)]
    (RESULTS / "criterion_mean.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "criterion_mean.md").write_text(_table(rows))
    sys.stdout.write(_table(rows))


if __name__ == "__main__":
    main()
