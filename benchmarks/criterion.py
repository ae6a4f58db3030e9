"""Exponent of the criterion's eta* over depth, at initialization, beside what was expected.

Usage: python benchmarks/criterion.py

Linear loss (the outputs' sum), one example, ReLU, readout of variance 1/fan_in^2 (mean-field, as
in [JE]); the zoo's GPT with cross-entropy on text and AdamW through `complete-p` plans. Each
network with each of the three sets of pre-activations. Depths, widths and seeds are fixed below.
The bands were written down before the first run; that they hold for the residual stream (in a
chain: the hidden layers) and not for all layers was learnt from a first run of ten seeds, with all
layers and the standard readout, which fell outside of all five and is not stored. What falls
outside is printed so. Two exponents of the same measurements were added after the results had been
seen, to find why two rows of the stream lie outside. Over the depth as the network takes it (hidden
layers, or branches): effective depth counts the input layer and the head too, which makes a slope
of -1 over depths 8 to 64 one of -1.10 in effective depth. And of the last pre-activation alone:
where the update grows along the stream, its mean over few additions is further from the last one's
than over many, so that over small depths the mean's exponent lies above the last one's.
Written to benchmarks/results/criterion.json and criterion.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import linear_regression
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etastar.datasets import load
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.measure import ScanReport, scan_updates
from etastar.measure.differences import PreActivations
from etastar.models import build
from etastar.transfer import Tuned, plan_transfer

RESULTS = Path(__file__).parent / "results"
SETS: dict[PreActivations, tuple[int, ...]] = {
    "stream": tuple(range(24)),
    "hidden": tuple(range(8)),
    "layers": tuple(range(8)),
}
DEPTHS = (8, 16, 32, 64)
GPT_DEPTHS = (1, 2, 4, 8)
WIDTH = 512
LR = 1e-3


@dataclass(frozen=True)
class Case:
    """One scan, and the band in which its exponent was expected."""

    name: str
    band: tuple[float, float]
    scan: Callable[..., ScanReport]


def linear_loss(output: Tensor, _: object) -> Tensor:
    """The sum of the outputs."""
    return output.sum()


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the next token at every position."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def one_example() -> tuple[Tensor, None]:
    """A standard normal input."""
    return torch.randn(1, 64, generator=torch.Generator().manual_seed(0)), None


def initialized(
    depth: int, *, model: str, residual: str, inputs: Tensor, **kwargs: Any
) -> nn.Module:
    """A network of the zoo with the package's initialization, drawn from the global generator."""
    network = build(model, depth=depth, **kwargs)
    seed = int(torch.randint(2**31, ()))
    readout = "standard" if model == "gpt" else "mup"
    graph = capture_graph(network, inputs)
    initialize_(network, graph, residual=residual, readout=readout, seed=seed)
    return network


def perceptron(
    model: str, residual: str = "all", *, options: dict[str, Any], **kwargs: Any
) -> ScanReport:
    """A scan of an MLP, residual or not."""
    batch = one_example()
    factory = partial(
        initialized,
        model=model,
        residual=residual,
        inputs=batch[0],
        in_features=64,
        width=WIDTH,
        **kwargs,
    )
    sizes = [{"depth": depth} for depth in DEPTHS]
    return scan_updates(factory, sizes, batch, linear_loss, optimizer="sgd", **options)


def gpt(*, options: dict[str, Any]) -> ScanReport:
    """A scan of the GPT through `complete-p` plans from the shallowest."""
    data = load("stdlib-text")
    batch = next(iter(data.batches(0, 16, 1)))
    make = partial(
        initialized, model="gpt", residual="none", inputs=batch[0], width=64,
        vocabulary=data.num_classes, context=batch[0].shape[1],
    )  # fmt: skip
    torch.manual_seed(0)
    graphs = {depth: capture_graph(make(depth), batch[0]) for depth in GPT_DEPTHS}
    plans = {
        depth: plan_transfer(
            Tuned(graphs[GPT_DEPTHS[0]], LR), graphs[depth], optimizer="adamw", law="complete-p"
        )
        for depth in GPT_DEPTHS
    }

    def planned(depth: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        network = make(depth)
        plans[depth].rescale_(network)
        return network, torch.optim.AdamW(plans[depth].param_groups(network), lr=LR)

    sizes = [{"depth": depth} for depth in GPT_DEPTHS]
    return scan_updates(planned, sizes, batch, token_loss, optimizer=None, lr_unit=LR, **options)


CASES = (
    Case("chain, width 512, SGD", (-1.8, -1.3), partial(perceptron, "mlp")),
    Case(
        "residual, one-layer branches, 1/K, SGD",
        (-1.15, -0.85),
        partial(perceptron, "resmlp", branch_layers=1),
    ),
    Case(
        "residual, two-layer branches, 1/K on all, SGD",
        (-0.2, 0.35),
        partial(perceptron, "resmlp", branch_layers=2),
    ),
    Case(
        "residual, two-layer branches, 1/K on the last, SGD",
        (-1.2, -0.85),
        partial(perceptron, "resmlp", "last", branch_layers=2),
    ),
    Case("GPT, width 64, complete-p, AdamW, text", (-0.4, 0.1), gpt),
)


def depth_exponent(points: list[list[Any]]) -> float:
    """Exponent over the depth that the network was made with."""
    log_depths = [math.log(depth) for depth, *_ in points]
    return linear_regression(log_depths, [math.log(eta) for _, _, eta, _ in points]).slope


def last_exponent(scan: ScanReport) -> float:
    """Exponent of the rate that the last pre-activation alone would allow."""
    log_depths = [math.log(x) for x in scan.exponents["depth"].abscissas]
    log_squares = [math.log(p.report.layers[-1].mean_square_update) for p in scan.points]
    return -linear_regression(log_depths, log_squares).slope / 2


def row(case: Case, pre_activations: PreActivations) -> dict[str, Any]:
    """One case, measured."""
    seeds = SETS[pre_activations]
    scan = case.scan(options={"seeds": seeds, "pre_activations": pre_activations})
    low, high = case.band
    found = scan.exponents["depth"]
    points = [
        [p.size["depth"], x, p.report.eta_star, p.report.eta_star_interval]
        for p, x in zip(scan.points, found.abscissas, strict=True)
    ]
    return {
        "name": case.name,
        "pre_activations": pre_activations,
        "seeds": len(seeds),
        "band": [low, high],
        "inside": low <= found.exponent <= high,
        "exponent": found.exponent,
        "interval": found.interval,
        "depth_exponent": depth_exponent(points),
        "last_exponent": last_exponent(scan),
        "slopes": found.slopes,
        "points": points,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "# The criterion over depth, at initialization",
        "",
        f"Width {WIDTH} (GPT 64), exponent of eta* of a typical seed in effective depth; 95% "
        "intervals by Student's t over seeds. The bands were there before the first run; that they "
        "are those of the stream was learnt from it (see the script).",
        "",
        "| network | pre-activations | seeds | expected | exponent | interval | between neighbours "
        "| inside | over depth itself | of the last alone |",
        f"{'| --- ' * 10}|",
    ]
    for one in rows:
        low, high = one["interval"]
        slopes = ", ".join(f"{slope:.2f}" for slope in one["slopes"])
        cells = (
            one["name"],
            one["pre_activations"],
            one["seeds"],
            f"{one['band'][0]} to {one['band'][1]}",
            f"{one['exponent']:.3f}",
            f"{low:.3f} to {high:.3f}",
            slopes,
            "yes" if one["inside"] else "no",
            f"{one['depth_exponent']:.3f}",
            f"{one['last_exponent']:.3f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, write and print."""
    torch.set_num_threads(1)
    rows = [row(case, which) for which in SETS for case in CASES]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "criterion.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "criterion.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
