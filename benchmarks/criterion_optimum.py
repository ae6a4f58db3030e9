"""eta* of the criterion, with nothing tuned, beside the tuned optimum of the same network.

Usage: python benchmarks/criterion_optimum.py

The optima are the stored ones of the experiment `transformer` (results/transformer/cpu); the
network, its initialization and its optimizer are that experiment's own, the batches are others.
Written to benchmarks/results/criterion_optimum.json and criterion_optimum.md.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from etastar.experiments.training import family_experiment, load_data
from etastar.experiments.transformer import study
from etastar.measure import measure_update
from etastar.measure.pre_activations import PreActivations

ROOT = Path(__file__).parent
OPTIMA = ROOT.parent / "results" / "transformer" / "cpu" / "optima.json"
FAMILIES = ("GPT AdamW, complete-p", "GPT AdamW, 1/K", "GPT SGD, complete-p", "GPT SGD, 1/K")
SEEDS = (0, 1, 2)
DATA_SEED = 30_000


def row(family: Any, tuned: dict[str, Any], which: PreActivations) -> dict[str, Any]:
    """The criterion at one size of a family."""
    experiment = family_experiment(family)

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return experiment.make_optimizer(model, 1.0)

    report = measure_update(
        partial(experiment.factory, **tuned["size"]),
        next(iter(load_data(family.data).batches(DATA_SEED, family.budget.batch_size, 1))),
        experiment.loss_fn,
        optimizer=optimizer,
        seeds=SEEDS,
        pre_activations=which,
        lr_unit=1.0,
    )
    return {
        "family": family.name,
        "size": tuned["size"],
        "pre_activations": which,
        "tuned": tuned["lr"],
        "eta_star": report.eta_star,
        "interval": report.eta_star_interval,
        "ratio": report.eta_star / tuned["lr"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown: one line for each family and depth."""
    sets = get_args(PreActivations)
    lines = [
        "# The criterion's eta* beside the tuned optimum, nothing tuned",
        "",
        f"Mean over {len(SEEDS)} seeds; in brackets the ratio to the tuned optimum.",
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
    families = {family.name: family for family in study("cpu").families}
    optima = json.loads(OPTIMA.read_text())
    rows = [
        row(families[name], tuned, which)
        for name in FAMILIES
        for tuned in optima
        if tuned["family"] == name
        for which in get_args(PreActivations)
    ]
    (ROOT / "results" / "criterion_optimum.json").write_text(json.dumps(rows, indent=1) + "\n")
    (ROOT / "results" / "criterion_optimum.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
