"""Capture every model of torchvision, 90 families of timm and 300 classes of transformers.

Usage: python benchmarks/survey.py [--library NAME] [--limit SECONDS] [--each SECONDS]

The networks are listed in survey_names.json. Those of transformers have tiny configurations: the
default one with every size that a name gives away cut down, its parts likewise. All are in training
mode. Each library runs in a process of its own (transformers must not find a torchvision of another
build); a network that takes longer than --each is given up. What was measured stays in
benchmarks/results/survey.json: a run goes on where the last one stopped, and the page
docs/survey.md is written anew.
"""

from __future__ import annotations

import argparse
import inspect
import json
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from etastar.errors import EtastarError
from etastar.graph import capture_graph
from etastar.sources.libraries import SOURCES

ROOT = Path(__file__).parents[1]
NAMES: dict[str, list[str]] = json.loads((ROOT / "benchmarks/survey_names.json").read_text())
RESULTS = ROOT / "benchmarks/results/survey.json"
PAGE = ROOT / "docs/survey.md"

_LARGEST = 100_000_000  # parameters of a network that is given memory
_MEMORY = 6 * 2**30  # bytes of addresses for a worker: what asks for more is not built
_OPERATORS = "nms roi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d qnms qroi_align".split()
_SIZES = {
    "hidden_size d_model n_embd embed_dim dim hidden_dim projection_dim attention_hidden_size"
    " word_embed_proj_dim embedding_size decoder_hidden_size emb_dim": 32,
    "intermediate_size ffn_dim n_inner d_ff encoder_ffn_dim decoder_ffn_dim dim_feedforward"
    " moe_intermediate_size shared_expert_intermediate_size decoder_intermediate_size"
    " ffn_hidden_size mlp_dim": 64,
    "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_encoder_layers"
    " num_decoder_layers decoder_num_hidden_layers num_blocks": 2,
    "num_attention_heads n_head n_heads num_heads encoder_attention_heads num_key_value_heads"
    " decoder_attention_heads decoder_num_attention_heads": 4,
    "head_dim d_kv kv_channels attention_head_dim": 8,
    "vocab_size text_vocab_size n_words": 128,
    "max_position_embeddings n_positions": 64,
    "num_experts num_local_experts n_routed_experts moe_num_experts": 4,
    "num_experts_per_tok moe_k": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_mel_bins": 16,
    "max_source_positions": 8,
    "state_size mamba_d_state rotary_dim window_size": 4,
    "qk_rope_head_dim qk_nope_head_dim v_head_dim q_lora_rank kv_lora_rank": 8,
    "pad_token_id bos_token_id eos_token_id": 1,
}
_SIZE_OF = {name: size for names, size in _SIZES.items() for name in names.split()}
_LISTS: dict[str, Callable[[int], list[int]]] = {
    "depths": lambda n: [1] * n,
    "hidden_sizes": lambda n: [16 * (i + 1) for i in range(n)],
    "num_heads": lambda n: [2] * n,
    "num_attention_heads": lambda n: [2] * n,
    "conv_dim": lambda n: [16] * n,
}


def tiny_config(kind: Any) -> Any:
    """The default configuration of a class, made again with small sizes."""
    default = kind()
    sizes: dict[str, Any] = {}
    for key in {*inspect.signature(kind.__init__).parameters, *vars(default)}:
        value = getattr(default, key, None)
        if isinstance(value, (list, tuple)) and key in _LISTS:
            sizes[key] = type(value)(_LISTS[key](len(value)))
        elif type(value) is int and key in _SIZE_OF:
            sizes[key] = min(value, _SIZE_OF[key])
    for key, part in getattr(kind, "sub_configs", {}).items():
        if part is not kind and "Auto" not in part.__name__:
            sizes[key] = tiny_config(part).to_dict()
    return kind(**sizes)


_Network = tuple[Any, tuple[Any, ...], dict[str, Any]]


def make_network(library: str, name: str, device: str = "meta") -> _Network:
    """A network of the list in training mode, and its example inputs."""
    if library == "torchvision":
        return _of_torchvision(name, device)
    if library == "timm":
        with torch.device(device):
            model = SOURCES["timm"].build(name, {})
        return model.train(), *SOURCES["timm"].inputs(name, {}, model)
    import transformers

    kind = getattr(transformers, name)
    with torch.device(device):
        model = kind(tiny_config(kind.config_class))
    model.config.use_cache = False
    return model.train(), *SOURCES["hf"].inputs(name, {}, model)


def _of_torchvision(name: str, device: str) -> _Network:
    """Videos have frames, flows two images; detection wants its targets in training mode."""
    import torchvision

    builder = torchvision.models.get_model_builder(name)
    optional = {"weights": None, "weights_backbone": None}
    given = {k: v for k, v in optional.items() if k in inspect.signature(builder).parameters}
    place = builder.__module__
    with torch.device(device):
        model = builder(**given).train("detection" not in place)
    if "optical_flow" in place:
        return model, (torch.zeros(1, 3, 128, 128),) * 2, {}
    if "detection" in place:
        return model, ([torch.rand(3, 320, 320)],), {}
    side = 299 if "inception" in name else 224
    frames = (16,) if ".video" in place else ()
    return model, (torch.zeros(2, 3, *frames, side, side),), {}


def measured(library: str, name: str) -> dict[str, Any]:
    """What capture says of one network: without memory if it can, else in so much as is there."""
    try:
        model, args, kwargs = make_network(library, name)
        result = _captured(model, args, kwargs)
        is_small = sum(p.numel() for p in model.parameters()) < _LARGEST
    except Exception as error:  # some cannot be built without memory
        result, is_small = {"outcome": "not built", "why": _first_line(error)}, True
    if result["outcome"] == "fake" or not is_small:
        return result
    try:
        network = make_network(library, name, "cpu")
    except (Exception, MemoryError) as error:
        return {"outcome": "not built", "why": _first_line(error)}
    return _captured(*network)


def _captured(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        report = capture_graph(model, *args, **kwargs).depth()
    except EtastarError as error:
        return {"outcome": _why_not(model, args, kwargs), "why": _first_line(error)}
    return {
        "outcome": report.capture,
        "depth": report.effective_depth,
        "longest": report.longest_path,
        "additions": report.residual_additions,
        "layers": report.weight_layers,
        "reuse": "recurrent" if report.recurrent else "stacked" if report.stacked else "",
        "notes": [*filter(None, [report.capture_note]), *report.notes],
    }


def _why_not(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Whether capture refused what runs by itself."""
    try:
        model(*args, **kwargs)
    except Exception:
        return "not run"
    return "refused"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


class _TooLongError(BaseException):
    """Not to be taken for what a network raises."""


def _give_up(number: int, frame: Any) -> None:
    raise _TooLongError("longer than --each")


def run(library: str, names: list[str], *, each: int, limit: float) -> None:
    """Measure networks in this process; one line of JSON each."""
    signal.signal(signal.SIGALRM, _give_up)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    start = time.monotonic()
    for name in names:
        if time.monotonic() - start > limit:
            return
        signal.alarm(each)
        try:
            result = measured(library, name)
        except BaseException as error:
            result = {"outcome": "given up", "why": _first_line(error)}
        signal.alarm(0)
        print(json.dumps({"library": library, "name": name, **result}), flush=True)


def _define_operators() -> torch.library.Library:
    """Schemas of torchvision's compiled operators, without which another build does not import."""
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor x) -> Tensor")
    for name in _OPERATORS[1:6]:
        library.define(f"_{name}_backward(Tensor x) -> Tensor")
    return library


def survey(libraries: list[str], *, each: int, limit: float) -> None:
    """Measure what is not measured yet, each library in a process of its own."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for library in libraries:
        end = time.monotonic() + limit
        while missing := [name for name in NAMES[library] if f"{library}:{name}" not in results]:
            if time.monotonic() > end:
                break
            _measure(library, missing, results, each=each, limit=end - time.monotonic())
    PAGE.write_text("\n".join(_page(results)) + "\n")


def _measure(
    library: str, missing: list[str], results: dict[str, Any], *, each: int, limit: float
) -> None:
    """In a process of its own, until it ends; the network at which it was killed is given up."""
    options = ["--worker", library, "--each", str(each), "--limit", str(limit)]
    command = [sys.executable, "-W", "ignore", __file__, *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("\n".join(missing))
        worker.stdin.close()
        for line in worker.stdout:
            if line.startswith('{"library"'):
                result = json.loads(line)
                missing.remove(name := result.pop("name"))
                results[f"{result.pop('library')}:{name}"] = result
                RESULTS.write_text(json.dumps(results, indent=0, sort_keys=True) + "\n")
    if worker.returncode:
        results[f"{library}:{missing[0]}"] = {"outcome": "given up", "why": "the process ended"}


def _page(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "# Survey: which networks are captured"
    yield ""
    yield "Written by `make survey` (see `benchmarks/survey.py`; no part of CI). *Fake*: captured"
    yield "without arithmetic; *real*: fake tensors were refused, so that the example was computed;"
    yield "*refused*: neither ran, though the network does. Networks that do not run on the"
    yield "example themselves, that their library did not build from the tiny configuration or"
    yield "that took too long, say nothing of capture."
    yield ""
    kinds = ("fake", "real", "refused", "not run", "not built", "given up")
    yield f"| library | listed | {' | '.join(kinds)} |"
    yield f"| --- |{' ---: |' * (len(kinds) + 1)}"
    for library, names in NAMES.items():
        found = Counter(r["outcome"] for k, r in results.items() if k.startswith(f"{library}:"))
        yield f"| {library} | {len(names)} | {' | '.join(str(found[kind]) for kind in kinds)} |"
    for library, names in NAMES.items():
        yield from ("", f"## {library}", "")
        yield "| network | captured | depth | longest | additions | layers | reuse | notes |"
        yield "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |"
        for name in sorted(names):
            if (result := results.get(f"{library}:{name}")) is not None:
                yield _row(name, result)


def _row(name: str, result: dict[str, Any]) -> str:
    numbers = [result.get(key, "") for key in ("depth", "longest", "additions", "layers", "reuse")]
    notes = "; ".join(result.get("notes", [result.get("why", "")])).replace("|", "/")
    shown = notes if len(notes) <= 160 else f"{notes[:157]}..."
    return f"| {name} | {result['outcome']} | {' | '.join(map(str, numbers))} | {shown} |"


def main() -> None:
    """Run the survey, or as a worker one library of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", choices=NAMES, action="append")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for each library")
    parser.add_argument("--each", type=int, default=120, help="seconds for one network")
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is None:
        survey(options.library or list(NAMES), each=options.each, limit=options.limit)
        return
    if options.worker != "transformers":
        sys.path.insert(0, str(ROOT / ".vision"))
        kept = _define_operators()
    run(options.worker, sys.stdin.read().split(), each=options.each, limit=options.limit)
    if options.worker != "transformers":
        del kept


if __name__ == "__main__":
    main()
