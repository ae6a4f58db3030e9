"""Plans between two sizes of thirty networks: every parameter is there, its role says its factors.

What is expected is written down here from the tables of docs/definitions.md (sections 3 and 4) and
the architectures, by names of parameters; nothing of it is read off graph or laws.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("thirty_pairs.py")
NOTES = json.loads(Path(__file__).with_name("thirty_notes.json").read_text())

spec = importlib.util.spec_from_file_location("transfer_thirty_pairs", SOURCE)
pairs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pairs)

LLAMA = ("model.layers.*", "*.o_proj.weight *.down_proj*", "")
GPT2 = ("transformer.h.*", "*.c_proj.*", "")
NO_STREAM = ("", "", "")

BRANCHES = {
    "gpt2": GPT2,
    "gpt2, tied": GPT2,
    "lora on gpt2": GPT2,
    "llama": LLAMA,
    "gemma": LLAMA,
    "qwen3": LLAMA,
    "mixtral": LLAMA,
    "gemma2": (LLAMA[0], "*.post_attention_layernorm.* *.post_feedforward_layernorm.*", ""),
    "phi": ("model.layers.*", "*.dense.* *.fc2.*", ""),
    "gptneox": ("gpt_neox.layers.*", "*.attention.dense.* *.dense_4h_to_h.*", ""),
    "bloom": ("transformer.h.*", "*.self_attention.dense.* *.dense_4h_to_h.*", ""),
    "bert": ("bert.encoder.layer.*", "*.output.dense.*", "*.LayerNorm.*"),
    "roberta": ("roberta.encoder.layer.*", "*.output.dense.*", "*.LayerNorm.*"),
    "t5": ("encoder.block.* decoder.block.*", "*.o.weight *.wo.weight", ""),
    "bart": ("model.*coder.layers.*", "*.out_proj.* *.fc2.*", "*_layer_norm.*"),
    # what makes step and mixing lies on a sum of its own, of one term at either size
    "mamba": ("backbone.layers.*", "*.out_proj.*", "*.x_proj.weight *.dt_proj.weight"),
    "vit (transformers)": ("vit.layers.*", "*.o_proj.* *.fc2.*", ""),
    "dinov2": ("dinov2.encoder.layer.*", "*.lambda1", ""),
    "resnet (transformers)": ("resnet.encoder.stages.*", "*.layer.1.norm*", "*.shortcut.*"),
    "u-net": NO_STREAM,
    "dit": ("blocks.*", "*.out_proj.* *.mlp.2.*", "*.modulation.*"),
    "rezero": ("layers.* gains.*", "gains.*", ""),
    "resnet": ("layer*", "*.bn2.*", "*.downsample.*"),
    "densenet": NO_STREAM,
    "vit": ("encoder.layers.*", "*.out_proj.* *.mlp.3.*", ""),
    "swin": ("features.3.*", "*.attn.proj.* *.mlp.3.*", ""),  # the other stage does not grow
    "convnext": ("features.1.*", "*.layer_scale", ""),
    "mobilenetv3": ("features.[3456].*", "*.block.3.1.*", ""),
    "timm vit": ("blocks.*", "*.attn.proj.* *.mlp.fc2.*", ""),
    "timm deit3": ("blocks.*", "*.gamma", ""),
    "timm cait": ("blocks.*", "*.gamma_*", ""),
}
"""Parameters on the branches of a stream that grows; those that scale what a branch makes; those
among the first that lie on no such branch."""

STEADY = "features.1.* features.3.*"
"""Branches of streams that do not grow (stages of Swin and ConvNeXt)."""
ADDITIONS = {"resnet (transformers)": 5 / 3, "resnet": 7 / 5}  # else twice as many
DEPTHS = {
    **dict.fromkeys(("phi", "gptneox", "mamba", "rezero"), (4, 6)),
    **dict.fromkeys(("bert", "roberta"), (7, 11)),
    **dict.fromkeys(("t5", "bart"), (8, 14)),
    **dict.fromkeys(("resnet (transformers)", "convnext"), (6, 8)),
    **dict.fromkeys(("u-net", "densenet"), (3, 3)),
    "resnet": (10, 12),
    "swin": (11, 15),
    "mobilenetv3": (11, 13),
    "timm cait": (10, 14),  # the last of two blocks of the class token: three layers, three sums
}  # else 2n + 2: embedding, two additions a block, head

STRUCTURE = {
    **dict.fromkeys(("u-net", "densenet"), 1.0),  # chains whose depth does not grow
    **dict.fromkeys(("convnext", "mobilenetv3"), 1.0),  # three layers a branch: m = 2
    "resnet": 1.0,  # stem, head and three shortcuts: the trunk has more layers than sqrt(7)
    "resnet (transformers)": (5 / 3) ** -0.5,
    "rezero": 0.5,  # one layer a branch: m = 0
    "swin": (2 + 2) / (2 + 8**0.5),  # two streams, of which one grows
}  # else two layers a branch, m = 1 and a = 1/2: the sum over streams grows as K^(1/2)
JOINED = "features.denseblock1.denselayer[34].*1.weight features.denseblock1.denselayer[34].norm1.*"
"""Layers that the base has not, and that read more than any of its layers: no one's width."""
UNSURE = ("lora on gpt2", "mamba", "timm cait")  # ways of several lengths, sums within branches

WIDTHS = {
    "lora on gpt2": {"*.lora_A.weight": (2, 1), "*.lora_B.weight": (1, 2)},  # the rank
    "mixtral": {"*.mlp.gate.weight": (2, 1)},  # experts
    # one channel for each filter; rank, steps and mixing
    "mamba": {"*.conv1d.weight": (1, 2), "*.x_proj.weight": (2, 1), "*.dt_proj.weight": (1, 2)},
    "bart": {"model.shared.weight": (2, 1)},  # nothing reads it
    "dinov2": {"*.mask_token": (2, 1)},  # the same
    "t5": {"*.relative_attention_bias.weight": (1, 1)},  # one number a head
}
"""Ratio of the features that a parameter reads and makes, where it is not 2 and 2."""


def matches(name, patterns):
    return any(fnmatch(name, pattern) for pattern in patterns.split())


def ratios(network, name, found):
    """Ratio of what a parameter reads and of what it makes; 1 for sizes that stay as they are."""
    for pattern, special in WIDTHS.get(network, {}).items():
        if fnmatch(name, pattern):
            return special
    shape, base = found["target"][name], found["base"]
    if network in pairs.networks.BESIDE:
        twin = base.get(name, shape)
        return (shape[1] / twin[1] if len(shape) > 1 else 1), shape[0] / twin[0]
    first = re.sub(r"\.\d+(?=\.|$)", ".0", name, count=1)
    return (1, 1) if shape in (base.get(name), base.get(first)) else (2, 2)


def by_width(role, read, made, optimizer):
    """Factors on learning rate, initialization, epsilon and weight decay: section 3."""
    if role == "output":
        rate = 1 / read
        return [rate, read**-0.5, 1.0, read]  # multiplier 1 / n folded in
    if optimizer == "sgd":
        rate = made / read if role == "hidden" else made
        return [rate, 1.0, 1.0, 1 / rate]
    rate = 1 / read if role == "hidden" else 1.0
    return [rate, 1.0, 1 / made, 1 / rate]


def by_complete_p(place, k, optimizer):
    """The same of a branch multiplier 1 / k, folded in where the branch ends: section 4."""
    if place == "outside":
        return [1.0, 1.0, 1.0, 1.0]
    rate, eps, m = (k, 1.0, 1 / k) if optimizer == "sgd" else (1.0, 1 / k, 1 / k)
    if place == "inside":
        return [rate, 1.0, eps, 1.0]
    if optimizer == "sgd":
        return [rate * m**2, m, eps, m**-2]
    return [rate * m, m, eps / m, 1 / m]


def place(network, name):
    inside, ends, outside = BRANCHES[network]
    if not matches(name, inside) or matches(name, outside):
        return "outside"
    return "end" if matches(name, ends) else "inside"


def check_rate(network, plan, law, optimizer, name, role, rate):
    """A law that gives a rate alone: alike for all parameters, but for what ends a branch."""
    where = (network, law, optimizer, name, role)
    if plan["laws"][0][0] == "effective-depth":
        low, high = DEPTHS.get(network, (6, 10))
        power = plan["laws"][0][1]["exponent"]
        assert law == "auto" or power == -1.5
        assert rate == pytest.approx((high / low) ** power), where
    elif network in UNSURE:
        assert 0.5 <= rate <= 1, where
    elif optimizer == "adamw" or network == "rezero":
        assert rate == pytest.approx(STRUCTURE.get(network, 2**-0.5)), where
    elif role in ("norm", "bias") and matches(name, f"{BRANCHES[network][0]} {STEADY}"):
        # under SGD, what ends a branch has no weight behind it: 1 / K of all streams together
        assert 1 / ADDITIONS.get(network, 2) - 1e-9 <= rate <= 1 + 1e-9, where
    else:
        assert rate == pytest.approx(1.0), where


def check(network, found):
    k = ADDITIONS.get(network, 2)
    for which, plan in found["plans"].items():
        law, optimizer = which.split(", ")
        assert list(plan["entries"]) == list(found["target"]), (network, which)  # none dropped
        names = [name for name, _ in plan["laws"]]
        assert names[-1] == "width"
        if law == "auto":
            assert plan["interval"][0] < plan["interval"][1]
        for name, (role, width, depth) in plan["entries"].items():
            where = (network, which, name, role)
            if not (network == "densenet" and matches(name, JOINED)):
                due = by_width(role, *ratios(network, name, found), optimizer)
                assert width == pytest.approx(due), where
            decoupled = optimizer == "adamw"
            if names[0] == "complete-p":
                due = by_complete_p(place(network, name), k, optimizer)
                left = 1.0 if len(names) == 2 else depth[0] / due[0]  # a power that is left
                due = [due[0] * left, *due[1:3], due[3] / (left if decoupled else 1)]
            else:
                check_rate(network, plan, law, optimizer, name, role, depth[0])
                due = [depth[0], 1.0, 1.0, 1 / depth[0] if decoupled else 1.0]
            assert depth == pytest.approx(due), where
    notes = list(dict.fromkeys(n[:60] for plan in found["plans"].values() for n in plan["notes"]))
    assert notes == NOTES[network], network


def test_there_are_thirty():
    assert {*BRANCHES} == {*NOTES} == {*pairs.networks.HERE, *pairs.networks.BESIDE}
    assert len(BRANCHES) >= 30


@pytest.mark.parametrize("network", pairs.networks.HERE)
def test_every_factor_is_that_of_its_role(network):
    check(network, json.loads(json.dumps(pairs.plans(network))))


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / ".vision").is_dir(), reason="torchvision and timm are not in .vision (see Makefile)"
)
def test_vision_networks_likewise():
    """In a process of its own: transformers must not find a torchvision without its operators."""
    paths = os.pathsep.join([str(ROOT / ".vision"), str(ROOT / "src")])
    command = [sys.executable, str(SOURCE), *pairs.networks.BESIDE]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    for network, found in json.loads(done.stdout).items():
        check(network, found)
