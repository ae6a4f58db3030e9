"""Every call of `bad_calls.txt` is answered by the package's own error, and changes nothing.

A line is a call that someone made by mistake, or might: the kinds are wrong types, numbers outside
of their range, no numbers, user code that raises or returns something else, files that are none.
"""

import json
import os
import warnings
from math import inf, nan
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedulers

import etastar
from etastar.errors import EtastarError
from etastar.sweep.search import Bracket, Grid
from etastar.transfer import Measure, Target, TransferPlan, Tuned

CALLS = (Path(__file__).parent / "bad_calls.txt").read_text().splitlines()

X = torch.linspace(-1, 1, 32).reshape(8, 4)
Y = torch.arange(8) % 4
PARTS = ("received: ", "expected: ", "what to do: ")


class Listed(nn.Linear):
    def forward(self, x):
        return super().forward(x).tolist()


def net(layers=2):
    with torch.random.fork_rng():
        return nn.Sequential(*[nn.Linear(4, 4) for _ in range(layers)])


def listed():
    with torch.random.fork_rng():
        return Listed(4, 4)


def sparse():
    with warnings.catch_warnings(action="ignore"):  # PyTorch's own, on what is new there
        return X.to_sparse_csr()


def inference_net():
    with torch.inference_mode():
        return net()


def complex_net():
    with warnings.catch_warnings(action="ignore"):
        return net().to(torch.complex64)


def nan_net():
    model = net()
    nn.init.constant_(model[0].weight, nan)
    return model


def graph():
    return etastar.capture_graph(net(), X)


def planned_with(**settings):
    chosen = {"optimizer": "sgd", "law": "constant", **settings}
    return etastar.plan_transfer(Tuned((net(2), (X,)), 0.1), (net(4), (X,)), **chosen)


def planned():
    return torch.optim.SGD(planned_with().param_groups(net(4)))


def used(*, field=None, param=None, twice=False):
    data = json.loads(planned_with().to_json()) | (field or {})
    if param is not None:
        data["parameters"][0].update(param)
    if twice:
        data["parameters"].append(data["parameters"][0])
    found, model = TransferPlan.from_json(json.dumps(data)), net(4)
    found.param_groups(model)
    found.rescale_(model)


def recipe(**fields):
    usual = {
        "make_model": lambda depth: net(depth),
        "batches": lambda seed: [(X, Y)] * 3,
        "loss_fn": F.cross_entropy,
        "make_optimizer": lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        "num_steps": 3,
        "batch_size": 8,
    }
    return etastar.Recipe(**usual | fields)


def swept(recipe=None, sizes=({"depth": 2},), **settings):
    own = globals()["recipe"]() if recipe is None else recipe
    return etastar.run_sweep(own, sizes, **{"search": [0.1], "seeds": 1, **settings})


def wide(width):
    with torch.random.fork_rng():
        return nn.Sequential(nn.Linear(4, width), nn.Linear(width, 4))


WIDTHS = ({"width": 8}, {"width": 16})


def measured(model=None, batch=(X, Y), loss_fn=F.cross_entropy, **settings):
    chosen = {"optimizer": "sgd", "seeds": 2, **settings}
    return etastar.measure_update(net() if model is None else model, batch, loss_fn, **chosen)


def scanned(make=wide, sizes=WIDTHS, batch=(X, Y), loss=F.cross_entropy, **settings):
    chosen = {"optimizer": "sgd", "seeds": 2, **settings}
    return etastar.scan_updates(make, sizes, batch, loss, **chosen)


def checked(make=wide, sizes=WIDTHS, batch=(X, Y), loss=F.cross_entropy, **settings):
    chosen = {"optimizer": "sgd", "lr": 0.1, **settings}
    return etastar.coordinate_check(make, sizes, batch, loss, **chosen)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad_calls")
    os.mkfifo(folder / "fifo.json")
    public = {name: getattr(etastar, name) for name in etastar.__all__}
    return {**public, **globals(), "plan": planned_with(), "FOLDER": str(folder)}


def state():
    return (
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        Path.cwd(),
        dict(os.environ),
    )


def test_the_namesakes_are_there(names):
    """A misspelt helper would raise NameError, which is no answer; the good calls do pass."""
    for call in ("measured()", "scanned()", "checked()", "swept()", "planned_with()", "used()"):
        eval(call, names)
    used_by_name = {Bracket, Grid, Measure, Target, inf, schedulers}
    assert all(any(one is value for value in names.values()) for one in used_by_name)


@pytest.mark.parametrize("call", CALLS)
def test_it_is_answered(call, names):
    before = state()
    with pytest.raises(EtastarError) as answer:
        eval(call, names)
    assert all(part in str(answer.value) for part in PARTS)
    assert state() == before
