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
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedulers

import etastar
from etastar.errors import EtastarError
from etastar.sweep.search import Bracket, Grid
from etastar.transfer import Measure, Target, TransferPlan, Tuned

CALLS = (Path(__file__).parent / "bad_calls.txt").read_text().splitlines()

OF_IMPORTS = ("TORCHINDUCTOR_", "KMP_")  # set by libraries when they are first imported
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
        {name: value for name, value in os.environ.items() if not name.startswith(OF_IMPORTS)},
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


def saved(path):
    planned_with().save(path)


def drawn(**settings):
    return etastar.initialize_(net(), **{"graph": graph(), **settings})


def captured(model=None, x=X):
    return etastar.capture_graph(net() if model is None else model, x)


def tuned(**settings):
    return planned_with_base(Tuned(**{"network": (net(2), (X,)), "lr": 0.1, **settings}))


def planned_with_base(base=None, **target):
    base = Tuned((net(2), (X,)), 0.1) if base is None else base
    goal = target.get("target", (net(4), (X,)))
    return etastar.plan_transfer(base, goal, optimizer="sgd", law="constant")


def read(text):
    return TransferPlan.from_json(text)


def optimum(lrs=(0.1, 0.2, 0.4), losses=(2.0, 1.0, 3.0)):
    return etastar.find_optimum(lrs, losses)


def power_law(sizes=(2, 4, 8), lrs=(1.0, 0.5, 0.3)):
    return etastar.fit_power_law(sizes, lrs)


def tuning(**settings):
    usual = {"recipe": recipe(), "bases": [{"depth": 2}], "target": {"depth": 4}, "seeds": 1}
    chosen = {"search": [0.05, 0.1, 0.2], **usual, **settings}
    return etastar.tune(chosen.pop("recipe"), chosen.pop("bases"), chosen.pop("target"), **chosen)


ARGUMENTS = {
    captured: ("model", "x"),
    checked: ("make", "sizes", "batch", "loss", "optimizer", "lr", "num_steps", "seeds"),
    drawn: ("graph", "scheme", "residual", "readout", "seed", "exclude", "only"),
    measured: ("model", "batch", "loss_fn", "optimizer", "seeds", "pre_activations", "lr_unit"),
    optimum: ("lrs", "losses"),
    planned_with: ("optimizer", "law", "width", "init", "measure", "allow_recurrent"),
    planned_with_base: ("base", "target"),
    power_law: ("sizes", "lrs"),
    read: ("text",),
    recipe: tuple(etastar.Recipe.__dataclass_fields__),
    saved: ("path",),
    scanned: ("make", "sizes", "batch", "loss", "optimizer", "seeds", "pre_activations"),
    swept: ("sizes", "search", "seeds", "storage", "workers", "name"),
    tuned: tuple(name for name in Tuned.__dataclass_fields__ if name != "_"),
    tuning: ("recipe", "bases", "target", "optimizer", "law", "precision", "budget"),
}
PLACES = [(call, name) for call, names in ARGUMENTS.items() for name in names]


def raises(*args, **kwargs):
    raise RuntimeError("of the caller's own")


JUNK = {
    "None": None,
    "True": True,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "nan": nan,
    "inf": inf,
    "10**40": 10**40,
    "a fraction's text": "1.5",
    "no text": "",
    "a NUL": "\0",
    "markup": "[red]x[/red]",
    "an empty list": [],
    "a list": [1, 2],
    "mixed": [1, "a", None],
    "nested": [[[]]],
    "an empty dict": {},
    "a dict": {"a": 1},
    "a dict of numbers": {1: 2},
    "an object": object(),
    "a class": nn.Linear,
    "a tensor": X,
    "an empty tensor": X[:0],
    "doubles": X.double(),
    "labels": Y,
    "bytes": b"x",
    "gives None": lambda *args, **kwargs: None,
    "takes nothing": lambda: net(),
    "raises": raises,
}


@given(place=st.sampled_from(PLACES), junk=st.sampled_from(sorted(JUNK)))
def test_anything_in_any_argument_is_taken_or_answered(place, junk, tmp_path_factory):
    """2,000 of them: `--hypothesis-profile=many`."""
    call, name = place
    before, here = state(), Path.cwd()
    os.chdir(tmp_path_factory.getbasetemp())  # a text may be taken for the name of a file
    try:
        with warnings.catch_warnings(action="ignore"):
            call(**{name: JUNK[junk]})
    except EtastarError as answer:
        assert all(part in str(answer) for part in PARTS)  # noqa: PT017
    finally:
        os.chdir(here)
    assert state() == before
