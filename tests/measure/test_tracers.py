"""Every call that runs a network is refused within a tracer of PyTorch, before it touches anything.

In a process of its own, as the interpreter may crash.
"""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
import etastar
from etastar.errors import EtastarError

x, y = torch.randn(4, 4), torch.zeros(4, dtype=torch.long)

def make(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))

model = make()
graph, wide = etastar.capture_graph(model, x), etastar.capture_graph(make(16), x)
small = make(4), x
plan = etastar.plan_transfer(etastar.Tuned(small, 0.1), graph, optimizer="adamw", law="constant")
ran = []
recipe = etastar.Recipe(
    make_model=lambda width: ran.append(width) or make(width),
    batches=lambda seed: [(x, y)] * 3,
    loss_fn=F.cross_entropy,
    make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
    num_steps=3,
    batch_size=4,
)
CALLS = {
    "capture": lambda: etastar.capture_graph(model, x),
    "depth": lambda: etastar.effective_depth(model, x),
    "measure": lambda: etastar.measure_update(model, (x, y), F.cross_entropy, optimizer="sgd"),
    "scan": lambda: etastar.scan_updates(
        make, [{"width": 8}, {"width": 16}], (x, y), F.cross_entropy, optimizer="sgd"
    ),
    "coordinates": lambda: etastar.coordinate_check(
        make, [{"width": 8}, {"width": 16}], (x, y), F.cross_entropy, optimizer="sgd", lr=0.1
    ),
    "stability": lambda: etastar.check_stability(model, (x, y), F.cross_entropy),
    "initialize": lambda: etastar.initialize_(model, graph),
    "plan": lambda: etastar.plan_transfer(
        etastar.Tuned(small, 0.1), (model, x), optimizer="sgd", law="constant"
    ),
    "plan initialize": lambda: plan.initialize_(model),
    "rescale": lambda: plan.rescale_(model),
    "sweep": lambda: etastar.run_sweep(recipe, [{"width": 8}], search=[0.1, 0.2], seeds=1),
}

def within(place, call):
    def function(t):
        call()
        return t.sum()

    if place == "fake mode":
        with FakeTensorMode(allow_non_fake_inputs=True):
            return call()
    if place == "jvp":
        return torch.func.jvp(function, (x,), (x,))
    if place == "jit.trace":
        return torch.jit.trace(function, (x,))
    return getattr(torch.func, place, None)(function)(x)

def state():
    every = (*model.parameters(), *model.buffers())
    return [(id(t), type(t), t.device, t._version, t.tolist()) for t in every]

before, answers = state(), {}
for name, call in CALLS.items():
    try:
        within(sys.argv[1], call)
        answers[name] = "accepted"
    except EtastarError as error:
        answers[name] = error.received
    except BaseException as error:
        answers[name] = f"raw {type(error).__name__}: {error}"
    if state() != before or ran:
        answers[name] = "changed something"
print(json.dumps(answers))
"""

PLACES = {
    "fake mode": "FakeTensorMode",
    "grad": "torch.func",
    "vmap": "torch.func",
    "jvp": "torch.func",
    "jit.trace": "torch.jit.trace",
}


OFTEN = ("grad", "fake mode")  # the two that crashed and that turned weights into shapes


@pytest.mark.parametrize(
    "place", [one if one in OFTEN else pytest.param(one, marks=pytest.mark.slow) for one in PLACES]
)
def test_no_call_runs_within_a_tracer(place):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, place], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-800:]
    answers = json.loads(done.stdout)
    assert len(answers) == 11
    for call, answer in answers.items():
        assert "a call within" in answer, (call, answer)
        assert PLACES[place] in answer, (call, answer)
