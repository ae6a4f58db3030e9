"""eta* of the criterion, with nothing tuned, beside the tuned optimum of the same network.

Run as `python -m studies.criterion_optimum`. The optima are the stored ones of the experiment
`transformer`; the network, its initialization and its optimizer are that experiment's own, the
batches are others. Written to studies/results/criterion_optimum.json and criterion_optimum.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, get_args

import torch

from etastar.measure.differences import PreActivations
from studies.declaration import Family
from studies.experiments.transformer import study
from studies.gathering import criterion_optimum
from studies.measuring import first_training_step
from studies.reproduce import RESULTS

_OPTIMA = RESULTS / "transformer" / "cpu" / "optima.json"
_FAMILIES = ("GPT AdamW, complete-p", "GPT AdamW, 1/K", "GPT SGD, complete-p", "GPT SGD, 1/K")
_SEEDS = (0, 1, 2)
_DATA_SEED = 30_000


def _row(family: Family, tuned: Mapping[str, Any], which: PreActivations) -> dict[str, Any]:
    """The criterion at one size of a family."""
    size = tuple(sorted(tuned["size"].items()))
    report = first_training_step(
        family, size, seeds=_SEEDS, data_seed=_DATA_SEED, pre_activations=which, lr_unit=1.0
    )
    found = criterion_optimum(report)
    return {
        "family": family.name,
        "size": tuned["size"],
        "pre_activations": which,
        "tuned": tuned["lr"],
        "eta_star": found.lr,
        "interval": found.interval,
        "ratio": found.lr / tuned["lr"],
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown: one line for each family and depth."""
    sets = get_args(PreActivations)
    lines = [
        "# The criterion's eta* beside the tuned optimum, nothing tuned",
        "",
        f"Mean over {len(_SEEDS)} seeds; in brackets the ratio to the tuned optimum.",
        "",
        f"| network | depth | tuned | {' | '.join(sets)} |",
        f"| --- | --- | --- | {' | '.join('---' for _ in sets)} |",
    ]
    for first in range(0, len(rows), len(sets)):
        some = rows[first : first + len(sets)]
        cells = [f"{one['eta_star']:.4g} ({one['ratio']:.2f})" for one in some]
        head = some[0]
        lines.append(
            f"| {head['family']} | {head['size']['depth']} | {head['tuned']:.4g} | "
            f"{' | '.join(cells)} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, write and print."""
    torch.set_num_threads(1)
    families = {f.name: f for f in study("cpu").families if isinstance(f, Family)}
    optima = json.loads(_OPTIMA.read_text())
    rows = [
        _row(families[name], tuned, which)
        for name in _FAMILIES
        for tuned in optima
        if tuned["family"] == name
        for which in get_args(PreActivations)
    ]
    (RESULTS / "criterion_optimum.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "criterion_optimum.md").write_text(_table(rows))
    sys.stdout.write(_table(rows))


if __name__ == "__main__":
    main()
