"""Capture beside torch.export (non-strict): CPU time, memory on top, and growth with depth.

Usage: python benchmarks/capture.py [--limit SECONDS]

Every measurement is a process of its own on one thread, after a warm-up on a tiny network, and
counts CPU time, so that other work on the machine disturbs it little. Written to
benchmarks/results/capture.json and capture.md: ratios and counts only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from etastar.graph import Graph, capture_graph

RESULTS = Path(__file__).parent / "results"
Case = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


class Shortcut(nn.Module):
    """One residual block of one layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The block: x + relu(W x)."""
        return x + torch.relu(self.layer(x))


def residual(blocks: int = 1000) -> Case:
    """Residual blocks of one layer, with stem and head."""
    stream = [Shortcut(64) for _ in range(blocks)]
    return nn.Sequential(nn.Linear(8, 64), *stream, nn.Linear(64, 4)), (torch.zeros(2, 8),), {}


def linear() -> Case:
    """A chain of 1,000 linear layers."""
    return nn.Sequential(*[nn.Linear(64, 64) for _ in range(1000)]), (torch.zeros(2, 64),), {}


def resnet50() -> Case:
    """ResNet-50, as transformers builds it by default."""
    from transformers import ResNetConfig, ResNetForImageClassification

    model = ResNetForImageClassification(ResNetConfig())
    return model, (), {"pixel_values": torch.zeros(2, 3, 224, 224), "return_dict": False}


def _text(model: nn.Module) -> Case:
    tokens = torch.zeros(1, 128, dtype=torch.long)
    return model, (), {"input_ids": tokens, "use_cache": False, "return_dict": False}


def gpt2_xl() -> Case:
    """GPT-2 XL: 48 blocks, width 1600."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return _text(GPT2LMHeadModel(GPT2Config(n_layer=48, n_embd=1600, n_head=25)))


def _llama(width: int, inner: int, blocks: int, heads: int, groups: int) -> Case:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=groups,
    )
    return _text(LlamaForCausalLM(config))


def llama_7b() -> Case:
    """Llama-7B shape: 32 blocks."""
    return _llama(4096, 11008, 32, 32, 32)


def llama_70b() -> Case:
    """Llama-70B shape: 80 blocks, grouped queries."""
    return _llama(8192, 28672, 80, 64, 8)


MODELS: dict[str, tuple[str, Callable[[], Case]]] = {
    "residual": ("1,000 residual blocks", residual),
    "linear": ("1,000 linear layers", linear),
    "resnet50": ("ResNet-50", resnet50),
    "gpt2_xl": ("GPT-2 XL", gpt2_xl),
    "llama_7b": ("Llama-7B shape", llama_7b),
    "llama_70b": ("Llama-70B shape", llama_70b),
}


def _on_meta(factory: Callable[[], Case]) -> Case:
    with torch.device("meta"):
        return factory()


def _peak() -> float:
    """Highest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_capture(case: Case) -> dict[str, Any]:
    """CPU seconds and MB of capture and depth, and what they found."""
    model, args, kwargs = case
    before, start = _peak(), time.process_time()
    graph = capture_graph(model, *args, **kwargs)
    report = graph.depth()
    seconds = time.process_time() - start
    return {
        "seconds": seconds,
        "megabytes": _peak() - before,
        "nodes": len(graph),
        "effective_depth": report.effective_depth,
        "longest_path": report.longest_path,
        "residual_additions": report.residual_additions,
        "path_count_bits": report.path_count.bit_length(),
        "moment_bits": [m.bit_length() for m in report.path_length_moments],
        "capture": report.capture,
    }


def measure_export(case: Case) -> dict[str, Any]:
    """CPU seconds and MB of torch.export without functionalisation."""
    model, args, kwargs = case
    before, start = _peak(), time.process_time()
    program = torch.export.export(model.eval(), args, kwargs, strict=False)
    seconds = time.process_time() - start
    return {
        "seconds": seconds,
        "megabytes": _peak() - before,
        "nodes": len(program.graph.nodes),
    }


def measure_growth() -> dict[str, float]:
    """CPU seconds per node of residual networks, best of three."""
    found = {}
    for blocks in (10, 100, 1000):
        model, args, _ = _on_meta(lambda n=blocks: residual(n))
        found[str(blocks)] = min(_seconds_per_node(model, args) for _ in range(3))
    return found


def _seconds_per_node(model: nn.Module, args: tuple[Any, ...]) -> float:
    start = time.process_time()
    graph: Graph = capture_graph(model, *args)
    graph.depth()
    return (time.process_time() - start) / len(graph)


def one(what: str, name: str) -> dict[str, Any]:
    """One measurement, in this process."""
    torch.set_num_threads(1)
    measure = {"capture": measure_capture, "export": measure_export}.get(what)
    tiny = (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), (torch.zeros(1, 2),), {})
    (measure or measure_capture)(tiny)
    return measure_growth() if measure is None else measure(_on_meta(MODELS[name][1]))


def in_process(what: str, name: str, limit: float) -> dict[str, Any]:
    """One measurement, in a process of its own; says so if it takes longer than the limit."""
    command = [sys.executable, __file__, "--one", what, name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"over {limit:.0f} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:200]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run(limit: float) -> dict[str, Any]:
    """All measurements; what is written holds ratios and counts."""
    results: dict[str, Any] = {"torch": torch.__version__, "models": {}}
    for name, (title, _) in MODELS.items():
        ours = in_process("capture", name, limit)
        theirs = in_process("export", name, limit)
        results["models"][title] = row = compared(ours, theirs, limit)
        print(title, row, flush=True)
    growth = in_process("growth", "residual", limit)
    per_node = {blocks: round(s / growth["10"], 2) for blocks, s in growth.items()}
    results["time_per_node_relative_to_10_blocks"] = per_node
    return results


def compared(ours: dict[str, Any], theirs: dict[str, Any], limit: float) -> dict[str, Any]:
    """What we found, and our CPU time as a part of torch.export's."""
    row = dict(ours)
    seconds = row.pop("seconds", None)
    row["megabytes"] = round(row.get("megabytes", 0.0))
    if "seconds" in theirs and seconds is not None:
        row["time_ratio"] = round(seconds / theirs["seconds"], 4)
        row["export_megabytes"] = round(theirs["megabytes"])
    else:
        row["export"] = theirs.get("failed")
        if seconds is not None and theirs.get("failed", "").startswith("over"):
            row["time_ratio_below"] = round(seconds / limit, 4)
    return row


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Capture and depth beside torch.export (non-strict)",
        "",
        f"PyTorch {results['torch']}, meta device, one thread, CPU time, one run.",
        "",
        "| network | nodes | depth | longest | additions | paths (bits) | M_3 (bits) |"
        " time / torch.export's | MB on top | torch.export's MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for title, row in results["models"].items():
        if "failed" in row:
            lines.append(f"| {title} | {row['failed']} |")
            continue
        below = row.get("time_ratio_below")
        ratio = row.get("time_ratio") or (f"below {below}" if below else row.get("export"))
        cells = [
            title,
            row["nodes"],
            row["effective_depth"],
            row["longest_path"],
            row["residual_additions"],
            row["path_count_bits"],
            row["moment_bits"][3],
            ratio,
            row["megabytes"],
            row.get("export_megabytes", row.get("export")),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    growth = results["time_per_node_relative_to_10_blocks"]
    grown = ", ".join(f"{blocks} blocks {factor}" for blocks, factor in growth.items())
    return "\n".join([*lines, "", f"Time per node, relative to 10 residual blocks: {grown}.", ""])


def main() -> None:
    """Measure one thing, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "MODEL"))
    parser.add_argument("--limit", type=float, default=600.0, help="seconds per measurement")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    results = run(options.limit)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "capture.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "capture.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
