"""A replayed pass shows what a recorded one would, and says so when it took another way."""

import random

import pytest
import torch
from torch import nn

from etastar.graph.replay import replay
from etastar.graph.tracing import trace
from etastar.models import build, example_inputs


class Branching(nn.Module):
    """Takes another way when told to, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 3))
        self.norm = nn.BatchNorm1d(3)
        self.way = "first"
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        y = self.norm(self.layers(x.add_(1.0)))
        if self.way == "raises":
            raise RuntimeError("no way")
        if self.way == "longer":
            y = y * 2
        return y.tanh() if self.way == "other" else y.sigmoid()


def recorded(model, args, seed=3):
    """The outputs of every node that has a place, from a recorded pass."""
    found = {}
    torch.manual_seed(seed)
    traced = trace(
        model,
        args,
        {},
        fake=False,
        observer=lambda node, output: found.__setitem__(node.index, output.detach().clone()),
    )
    return traced.script, {index: found[index] for index in traced.script.places}


def replayed(model, args, script, seed=3, nodes=None):
    found = {}
    torch.manual_seed(seed)
    went = replay(
        model,
        args,
        {},
        script,
        lambda index, output: found.__setitem__(index, output.detach().clone()),
        nodes=frozenset(script.places) if nodes is None else nodes,
    )
    return went, found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"depth": 3, "width": 8}),
        ("resnet", {"depth": 2, "width": 4, "batch_norm": True, "dropout": 0.2}),
        ("gpt", {"depth": 1, "width": 16, "context": 8, "dropout": 0.1}),
        ("vit", {"depth": 1, "width": 16}),
    ],
)
def test_every_output_is_the_recorded_one(name, options):
    args = example_inputs(name, **options)
    model = build(name, **options).train()
    script, expected = recorded(model, args)
    went, found = replayed(model, args, script)
    assert went
    assert found.keys() == expected.keys()
    assert len(found) > 3
    assert all(torch.equal(found[index], expected[index]) for index in expected)


def test_other_weights_give_other_outputs_and_only_what_is_wanted_is_shown():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    args = (torch.ones(1, 2),)
    script, before = recorded(model, args)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    last = max(before)
    went, found = replayed(model, args, script, nodes=frozenset([last]))
    assert went
    assert found.keys() == {last}
    assert torch.equal(found[last], model(*args))
    assert not torch.equal(found[last], before[last])


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_a_pass_may_end_with_the_last_node_that_is_wanted(is_stubborn):
    completed = []

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x):
            try:
                y = self.first(x)
            except Exception:
                if not is_stubborn:
                    raise
                y = x
            y = self.last(y)
            completed.append(1)
            return y

    model, args = Model(), (torch.ones(1, 2),)
    script, before = recorded(model, args)
    first, found = min(before), {}
    went = replay(model, args, {}, script, found.__setitem__, nodes=frozenset([first]), stops=True)
    assert went
    assert list(found) == [first]
    assert torch.equal(found[first], before[first])
    assert completed == [1]


def test_everything_is_as_before():
    model, args = Branching(), (torch.randn(4, 3),)
    script, _ = recorded(model, args)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs, versions = args[0].clone(), [b._version for b in model.buffers()]
    random_state = torch.get_rng_state()
    drawn = random.getstate()
    went = replay(model, args, {}, script, lambda *_: None, nodes=frozenset())
    assert went
    assert model.calls == 0
    assert torch.equal(args[0], inputs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [b._version for b in model.buffers()] == versions
    assert torch.equal(torch.get_rng_state(), random_state)
    assert random.getstate() == drawn
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("way", ["other", "longer", "raises"])
def test_another_way_is_told(way):
    model, args = Branching(), (torch.randn(4, 3),)
    script, _ = recorded(model, args)
    assert replayed(model, args, script)[0]
    model.way = way
    assert not replayed(model, args, script)[0]


def test_a_pass_that_ends_early_is_told():
    model, args = Branching(), (torch.randn(4, 3),)
    model.way = "longer"
    script, _ = recorded(model, args)
    model.way = "first"
    assert not replayed(model, args, script)[0]


def test_a_node_without_a_place_needs_a_recorded_pass():
    model, args = nn.Linear(2, 2), (torch.ones(1, 2),)
    script, _ = recorded(model, args)
    assert not replayed(model, args, script, nodes=frozenset([10_000]))[0]
