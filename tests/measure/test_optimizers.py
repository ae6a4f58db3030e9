"""The direction of a step, taken in parts or at once."""

import math

import pytest
import torch
from torch import nn

from etastar.measure.optimizers import Direction, Optimizers

SEPARABLE = {
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "Adam": {"amsgrad": True},
    "AdamW": {"weight_decay": 0.3},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adadelta": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "ASGD": {},
    "Rprop": {},
}


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    model(torch.randn(4, 8)).square().mean().backward()
    return model


class Whole:
    """Counts the steps, and how many parameters had a gradient at each."""

    def __init__(self, optimizer):
        self.seen = []
        step = optimizer.step

        def counted(*args):
            group = optimizer.param_groups[0]["params"]
            self.seen.append(sum(p.grad is not None for p in group))
            return step(*args)

        optimizer.step = counted


@pytest.mark.parametrize("name", SEPARABLE)
def test_a_step_in_parts_goes_where_a_whole_one_does(name):
    directions, seen = [], []
    for whole in (False, True):
        model = network()
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01, **SEPARABLE[name])
        if whole:
            optimizer.register_step_pre_hook(lambda *_: None)  # might look at all gradients
        counter = Whole(optimizer)
        directions.append(Optimizers(model, [optimizer]).direction().updates)
        seen.append(counter.seen)
    parts, at_once = seen
    assert set(at_once) == {6}
    assert max(parts) < 6
    assert sum(parts) == 6 * len(at_once)
    assert directions[0].keys() == directions[1].keys()
    # Adam's fused form, which parts are stepped with, rounds in another order
    rel = 1e-5 if name.startswith("Adam") and name != "Adamax" else 0.0
    for key in directions[0]:
        torch.testing.assert_close(directions[0][key], directions[1][key], rtol=rel, atol=rel)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize(
    ("options", "fused"),
    [({}, True), ({"foreach": True}, False), ({"fused": False}, False), ({"lr": None}, False)],
)
def test_adam_is_fused_where_the_caller_left_it_to_pytorch(name, options, fused, monkeypatch):
    model = network()
    options = {"lr": 0.01, **options}
    if options["lr"] is None:
        options["lr"] = torch.tensor(0.01)
    optimizer = getattr(torch.optim, name)(model.parameters(), **options)
    before = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("params", "lr")}
    seen = []
    step = optimizer.step
    monkeypatch.setattr(
        optimizer, "step", lambda: seen.append(optimizer.param_groups[0]["fused"]) or step()
    )
    Optimizers(model, [optimizer]).direction()
    assert {bool(one) for one in seen} == {fused}
    after = optimizer.param_groups[0]
    assert all(after[key] == value for key, value in before.items())


def test_a_step_with_memory_or_of_another_class_is_taken_at_once():
    class Own(torch.optim.SGD):
        pass

    model = network()
    own = Own(model.parameters(), lr=0.1)
    counter = Whole(own)
    Optimizers(model, [own]).direction()
    assert counter.seen == [6]
    model = network()
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    adam.step()
    counter = Whole(adam)
    Optimizers(model, [adam]).direction()
    assert counter.seen == [6]


def test_values_kept_elsewhere_give_the_same_direction():
    model = network()
    origin = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = [
        Optimizers(one, [torch.optim.AdamW(one.parameters(), lr=0.1)]).direction(given).updates
        for one, given in ((network(), None), (model, origin))
    ]
    assert all(torch.equal(found[0][key], found[1][key]) for key in origin)
    assert all(torch.equal(p, origin[name]) for name, p in model.named_parameters())


def test_the_scale_is_that_of_the_parameters_that_move():
    direction = Direction(
        {"a": torch.ones(1), "b": torch.ones(1)}, {"a": 3.0, "b": 4.0}, {"a": 0.0, "b": 0.5}
    )
    assert direction.scale == pytest.approx(5 / 0.5)
    assert direction.only({"b"}).scale == pytest.approx(4 / 0.5)
    assert Direction({}, {}, {}).scale == 1.0
    assert Direction({"a": torch.ones(1)}, {"a": 1.0}, {"a": math.inf}).scale == 0.0
