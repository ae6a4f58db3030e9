"""timm's factory with a plan's groups; in a process of its own, beside `.vision`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from etastar.errors import PlanError
from etastar.integrations.timm import plan_groups
from etastar.transfer import Tuned, plan_transfer

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
import timm, torch
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.scheduler import CosineLRScheduler
import etastar
from etastar.integrations.timm import plan_groups

name, base, target = sys.argv[1], *map(json.loads, sys.argv[2:])
make = lambda size: timm.create_model(name, num_classes=10, **size)
example, model = torch.zeros(2, 3, 32, 32), make(target)
tuned = etastar.Tuned((make(base), example), 1e-3, weight_decay=0.05)
plan = etastar.plan_transfer(tuned, (model, example), optimizer="adamw")
plan.rescale_(model)
names = {id(p): name for name, p in model.named_parameters()}
found = {"planned": {e.name: e.lr for e in plan.parameters}}
for layer_decay in (None, 0.75):
    groups = plan_groups(plan, layer_decay=layer_decay)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, param_group_fn=groups)
    etastar.check_schedule(CosineLRScheduler(optimizer, t_initial=20, warmup_t=3))
    decays = {names[id(p)]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {e.name: e.weight_decay for e in plan.parameters}
    rates = {names[id(p)]: g["initial_lr"] for g in optimizer.param_groups for p in g["params"]}
    found[str(layer_decay)] = rates
own = param_groups_layer_decay(model, layer_decay=0.75)
found["scales"] = {names[id(p)]: g["lr_scale"] for g in own for p in g["params"]}
print(json.dumps(found))
"""
MODELS = {
    "vit_tiny_patch16_224": [
        {"img_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 2},
        {"img_size": 32, "depth": 4, "embed_dim": 64, "num_heads": 4},
    ],
    "convnext_tiny": [
        {"depths": [1, 1, 1, 1], "dims": [8, 16, 32, 64]},
        {"depths": [1, 1, 3, 1], "dims": [16, 32, 64, 128]},
    ],
}


SCHEDULERS = """
import json
import timm.scheduler, torch
from torch import nn
import etastar

def net(width):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 4))

tuned = etastar.Tuned((net(8), torch.zeros(3, 6)), 0.1)
plan = etastar.plan_transfer(tuned, (net(32), torch.zeros(3, 6)), optimizer="adamw", law="constant")
model = net(32)
plan.rescale_(model)
found = {}
for name, settings in (
    ("CosineLRScheduler", {"t_initial": 100}),
    ("StepLRScheduler", {"decay_t": 30}),
    ("PlateauLRScheduler", {}),
    ("PolyLRScheduler", {"t_initial": 100}),
    ("CosineLRScheduler", {"t_initial": 100, "lr_min": 0.01}),
):
    optimizer = torch.optim.AdamW(plan.param_groups(model))
    try:
        made = getattr(timm.scheduler, name)(optimizer, **settings)
        looked_at = etastar.check_schedule(made)
    except etastar.errors.ScheduleError as error:
        looked_at = error.received
    found[" ".join((name, *settings))] = looked_at
print(json.dumps(found))
"""


def run_beside_vision(tmp_path, script, *words):
    """What a script that imports timm prints as JSON on its last line."""
    if not (ROOT / ".vision").is_dir():
        pytest.skip("torchvision and timm are not in .vision (see Makefile)")
    file = tmp_path / "script.py"
    file.write_text(script)
    command = [sys.executable, str(ROOT / "tests" / "vision.py"), str(file), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_timms_own_schedulers_are_understood(tmp_path):
    found = run_beside_vision(tmp_path, SCHEDULERS)
    flattened = found.pop("CosineLRScheduler t_initial lr_min")
    assert "changes the ratios between the plan's groups at step" in flattened
    assert found == {
        "CosineLRScheduler t_initial": 101,
        "StepLRScheduler decay_t": 1000,
        "PlateauLRScheduler": 1000,
        "PolyLRScheduler t_initial": 101,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_factory_takes_the_plan_and_layers_decay_on_top(name, tmp_path):
    sizes = [json.dumps(size) for size in MODELS[name]]
    found = run_beside_vision(tmp_path, SCRIPT, name, *sizes)
    assert found["None"] == pytest.approx(found["planned"])
    scaled = {name: lr * found["scales"][name] for name, lr in found["planned"].items()}
    assert found["0.75"] == pytest.approx(scaled)
    assert len(set(found["scales"].values())) >= 4


def test_muon_and_a_decay_that_is_none_are_refused():
    def net(width):
        return nn.Sequential(nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 2))

    sizes = [(net(width), torch.zeros(1, 4)) for width in (8, 16)]
    muon = plan_transfer(
        Tuned(sizes[0], 0.02, aux_lr=0.003), sizes[1], optimizer="muon", law="constant"
    )
    with pytest.raises(PlanError, match="a plan for muon, in timm's factory"):
        plan_groups(muon)
    adamw = plan_transfer(Tuned(sizes[0], 0.02), sizes[1], optimizer="adamw", law="constant")
    with pytest.raises(PlanError, match="layer_decay=0"):
        plan_groups(adamw, layer_decay=0.0)
