"""Networks whose blocks are attributes, as libraries name them, match over depth."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from etastar import Tuned, capture_graph, plan_transfer
from etastar.transfer import match_parameters

ROOT = Path(__file__).parents[2]
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from vision import declare_operators
declare_operators()
import timm
from torchvision.models import DenseNet, ResNet, RegNet, VisionTransformer, resnet, regnet
from etastar import capture_graph
from etastar.transfer import match_parameters
stages, even = regnet.BlockParams, ([16] * 3, [8] * 3, [1.0] * 3, [2] * 3)
networks = {
    "densenet": (lambda *n: DenseNet(8, n, 16), (2, 2, 2), (3, 12, 4)),
    "resnet": (lambda *n: ResNet(resnet.Bottleneck, n), (2, 2, 2, 2), (3, 4, 6, 3)),
    "regnet": (lambda *n: RegNet(stages(n, *even)), (2, 2, 2), (2, 5, 3)),
    "vit": (lambda n: VisionTransformer(64, 16, n, 2, 32, 64), (2,), (6,)),
    "timm regnet": (lambda n: timm.create_model(f"regnetx_{n}"), ("002",), ("004",)),
    "timm dpn": (lambda n: timm.create_model(n), ("dpn92",), ("dpn98",)),
}
found = {}
for name, (make, small, large) in networks.items():
    infos = []
    for size in (small, large):
        with torch.device("meta"):
            model, image = make(*size).eval(), torch.zeros(1, 3, 64, 64)
        infos.append(capture_graph(model, image).parameters)
    found[name] = [(p.base.name, p.target.name, p.base.role) for p in match_parameters(*infos)]
print(json.dumps(found))
"""


class Attributes(nn.Module):
    """Blocks named one by one; every block has numbers of its own that count nothing."""

    def __init__(self, form: str, keys, width=16):
        super().__init__()
        self.names = [form.format(key) for key in keys]
        self.stem = nn.Linear(8, width)
        for name in self.names:
            layers = {"ln_1": nn.LayerNorm(width), "fc1": nn.Linear(width, 2 * width)}
            layers |= {"act": nn.ReLU(), "fc2": nn.Linear(2 * width, width)}
            self.add_module(name, nn.ModuleDict(layers))
        self.head1 = nn.Linear(width, 4)

    def forward(self, x):
        x = self.stem(x)
        for name in self.names:
            h = x
            for layer in self._modules[name].values():
                h = layer(h)
            x = x + h
        return self.head1(x)


@pytest.mark.parametrize(
    ("form", "small", "large"),
    [
        ("block{}", range(2), range(6)),
        ("layer_{}", range(1, 3), range(1, 12)),
        ("inception4{}", "ab", "abcdef"),
        ("conv3_{}_x", range(3), range(2)),
        ("stage2-{}", (2,), (1, 2, 3)),
    ],
)
def test_a_plan_over_depth_is_that_of_a_list_of_blocks(form, small, large):
    x = torch.zeros(2, 8)

    def planned(form, keys, others):
        with torch.device("meta"):
            base, target = Attributes(form, keys), Attributes(form, others, 32)
        tuned = Tuned((base, (x,)), 0.1)
        plan = plan_transfer(tuned, (target, (x,)), optimizer="adamw", law="complete-p")
        return [(p.role, p.lr, p.init, p.eps, p.factors) for p in plan.parameters]

    listed = planned("blocks:{}", range(len(small)), range(len(large)))
    assert planned(form, small, large) == listed


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("both_ways", [False, True])
def test_layers_of_a_recurrent_module_match(cell, both_ways):
    def infos(layers):
        with torch.device("meta"):
            model = cell(8, 16, layers, bidirectional=both_ways)
        return capture_graph(model, torch.zeros(3, 2, 8)).parameters

    found = {p.target.name: p.base.name for p in match_parameters(infos(2), infos(5))}
    for end in ("", "_reverse")[: 1 + both_ways]:
        assert found[f"weight_hh_l4{end}"] == f"weight_hh_l1{end}"
        assert found[f"weight_ih_l0{end}"] == f"weight_ih_l0{end}"


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".vision").is_dir(), reason="no torchvision and timm in .vision")
def test_networks_of_torchvision_and_timm_match_stage_by_stage():
    command = [sys.executable, "-c", RUN, str(ROOT / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stage = re.compile(r"denseblock\d|layer\d|block\d|\bs\d|conv\d(?=_)|encoder|head|fc|classifier")
    found = json.loads(done.stdout)
    assert len(found) == 6
    for name, pairs in found.items():
        assert any(base != target for base, target, _ in pairs), name
        for base, target, _ in pairs:
            assert re.sub(r"\d+", "#", base) == re.sub(r"\d+", "#", target)
            assert base.split(".")[-2:] == target.split(".")[-2:]
            assert stage.findall(base)[:1] == stage.findall(target)[:1], (name, base, target)
