"""Plans between two sizes of thirty networks: twice as deep, and twice as wide where that is easy.

Plain data comes out, so that the networks of torchvision and timm can be planned in a process of
their own (see Makefile).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import reduce
from operator import mul
from pathlib import Path
from typing import Any

from torch import nn

from etastar.graph import capture_graph
from etastar.transfer import Tuned, plan_transfer

__all__ = ["LAWS", "OPTIMIZERS", "networks", "plans"]

SOURCE = Path(__file__).parents[1] / "golden" / "thirty_networks.py"
spec = importlib.util.spec_from_file_location("thirty_networks_of_plans", SOURCE)
networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(networks)

LAWS = ("auto", "complete-p", "structure", "effective-depth")
OPTIMIZERS = ("adamw", "sgd")

_WIDTHS = (
    "hidden_size intermediate_size n_embd d_model d_ff encoder_ffn_dim decoder_ffn_dim hidden_sizes"
    " embedding_size num_attention_heads num_key_value_heads n_head num_heads"
    " encoder_attention_heads decoder_attention_heads"
).split()
"""Settings that grow with the width; heads grow in number, not in size."""

_OWN = {"u-net": (networks._UNet, 32), "dit": (networks._DiT, 64), "rezero": (networks._ReZero, 64)}


def _pair(name: str) -> tuple[Any, Any]:
    """Base and target, each with example inputs."""
    shallow, deep = (1, 2) if name == "u-net" else (2, 4)
    base, (model, inputs) = (networks.build_network(name, depth) for depth in (shallow, deep))
    if name in _OWN:
        make, width = _OWN[name]
        return base, (make(deep, 2 * width), inputs)
    if not hasattr(model, "config"):
        return base, (model, inputs)
    if name != "lora on gpt2":
        return base, (_wider(model), inputs)
    wide = _wider(networks.build_network("gpt2", deep)[0]).requires_grad_(False)
    for block in wide.transformer.h:
        block.attn.c_attn = networks._LowRank(block.attn.c_attn)
    return base, (wide, inputs)


def _wider(model: nn.Module) -> nn.Module:
    settings = model.config.to_dict()
    for key in _WIDTHS:
        value = settings.get(key)
        if isinstance(value, list):
            settings[key] = [2 * one for one in value]
        elif value is not None:
            settings[key] = 2 * value
    settings.update(bos_token_id=1, eos_token_id=2)
    return type(model)(type(model.config)(**settings)).eval()


def plans(name: str) -> dict[str, Any]:
    """Every plan between the two sizes, and the parameters of both.

    Args:
        name: A key of `networks.HERE` or `networks.BESIDE`.

    Returns:
        The shapes at the base and at the target, by name; and for each law and optimizer the
        plan's laws, notes, reach of its rate, and for each parameter its role and the factors of
        the width rule and of all other laws.
    """
    base, target = (
        capture_graph(model, *inputs)
        if isinstance(inputs, tuple)
        else capture_graph(model, **inputs)
        for model, inputs in _pair(name)
    )
    made = {
        f"{law}, {optimizer}": _plan(base, target, law, optimizer)
        for law in LAWS
        for optimizer in OPTIMIZERS
    }
    shapes = [{i.name: list(i.shape) for i in graph.parameters} for graph in (base, target)]
    return {"base": shapes[0], "target": shapes[1], "plans": made}


def _plan(base: Any, target: Any, law: str, optimizer: str) -> dict[str, Any]:
    tuned = Tuned(base, 1e-3, weight_decay=0.1, no_decay=())
    plan = plan_transfer(tuned, target, optimizer=optimizer, law=law, width="mup")
    entries = {}
    for entry in plan.parameters:
        *depth, (last, width) = entry.factors
        assert last == "width"
        both = (width, reduce(mul, (factors for _, factors in depth)))
        assert abs(entry.lr / (1e-3 * both[0].lr * both[1].lr) - 1) < 1e-9
        assert abs(entry.init / (both[0].init * both[1].init) - 1) < 1e-9
        entries[entry.name] = (
            entry.role,
            *([f.lr, f.init, f.eps, f.weight_decay] for f in both),
        )
    laws = [(law.name, dict(law.options)) for law in plan.laws]
    return {"laws": laws, "notes": plan.notes, "interval": plan.lr_interval, "entries": entries}


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    from vision import declare_operators

    declare_operators()
    print(json.dumps({name: plans(name) for name in sys.argv[1:]}))  # noqa: T201
