"""Every form in which an optimizer may be given, and the direction of its step."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.errors import MeasureError, MeasureWarning
from etastar.measure import measure_update
from etastar.measure.batch import read_batch
from etastar.measure.differences import step_direction
from etastar.measure.subject import Subject
from etastar.optimizers import OPTIMIZERS, optimizer_kind, optimizer_like

LR = 0.01


def made():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)
    )


BATCH = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4


def eta_star(optimizer, model=None):
    model = made() if model is None else model
    every = {"optimizer": optimizer, "pre_activations": "layers"}
    return measure_update(model, BATCH, F.cross_entropy, **every).eta_star


def muon(model):
    matrices = [model[2].weight]
    others = [p for p in model.parameters() if p is not matrices[0]]
    return torch.optim.Muon(matrices, lr=1.0), torch.optim.AdamW(others, lr=1.0)


FUNCTIONS = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=1.0),
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=1.0),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=1.0),
    "muon": muon,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_a_class_a_kind_and_a_function_are_the_same(name):
    kind = OPTIMIZERS[name]
    classes = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "muon": "Muon"}
    forms = (name, name.upper(), getattr(torch.optim, classes[name]), kind, FUNCTIONS[name])
    assert len({eta_star(form) for form in forms}) == 1


def test_every_optimizer_of_the_registry_is_measured_by_its_name():
    assert set(FUNCTIONS) <= set(OPTIMIZERS)
    assert all(0 < eta_star(name) < math.inf for name in FUNCTIONS)


class Waiting(torch.optim.SGD):
    """As SOAP: the first step does nothing but begin its state."""

    def step(self, closure=None):
        first = not self.state.setdefault("begun", {})
        self.state["begun"]["yes"] = True
        return None if first else super().step(closure)


def test_of_an_optimizer_that_waits_a_step_the_next_is_measured():
    assert eta_star(Waiting) == eta_star("sgd")


def test_the_models_own_optimizer_is_told_by_its_own_rate():
    model = made()
    own = torch.optim.AdamW(model.parameters(), lr=LR)
    assert eta_star(own, model) == pytest.approx(eta_star("adamw"), rel=1e-4)
    assert eta_star([own], model) == eta_star(own, model)


def test_a_declared_or_undeclared_class_is_made_as_it_stands():
    declared = optimizer_like(torch.optim.NAdam, "adam", decoupled_weight_decay=False)
    assert eta_star(torch.optim.NAdam) == eta_star(declared)


def test_a_kind_of_an_instance_keeps_its_settings():
    instance = torch.optim.AdamW(made().parameters(), lr=LR, eps=1e-3, weight_decay=0.5)
    kind = optimizer_kind(instance)

    def same(model):
        return torch.optim.AdamW(model.parameters(), lr=1.0, eps=1e-3, weight_decay=0.5)

    assert eta_star(kind) == eta_star(same)


def test_muon_without_a_hidden_matrix_is_refused():
    torch.manual_seed(0)
    with pytest.raises(MeasureError, match="without a hidden matrix"):
        eta_star("muon", nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)))


SETTINGS = {
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "Adam": {"amsgrad": True},
    "AdamW": {"weight_decay": 0.3},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adamax": {},
    "RAdam": {},
}


def with_gradients():
    model = made()
    model(BATCH[0]).square().mean().backward()
    return model


@pytest.mark.parametrize("name", SETTINGS)
def test_the_direction_is_that_of_a_step(name):
    model, twin = with_gradients(), with_gradients()
    before = {name: p.detach().clone() for name, p in twin.named_parameters()}
    found, stepped = (
        getattr(torch.optim, name)(one.parameters(), lr=LR, **SETTINGS[name])
        for one in (model, twin)
    )
    stepped.step()
    direction = step_direction(Subject(model, (found,), LR, read_batch(BATCH), 0))
    for key, parameter in twin.named_parameters():
        expected = (parameter.detach() - before[key]) / LR
        torch.testing.assert_close(
            direction.updates[model.get_parameter(key)], expected, rtol=1e-3, atol=1e-4
        )
    assert all(torch.equal(p, before[key]) for key, p in model.named_parameters())
    assert not direction.is_rounded


def test_a_rate_given_as_a_tensor_is_measured_too():
    def capturable(model):
        return torch.optim.SGD(model.parameters(), lr=torch.tensor(LR))

    assert eta_star(capturable) == pytest.approx(eta_star("sgd"), rel=1e-4)


def test_a_step_that_stays_too_short_is_said_aloud():
    class Idle(torch.optim.SGD):
        """Its step does not grow with the rate."""

        def step(self, closure=None):
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.add_(1e-6)

    model = with_gradients()
    idle = Idle(model.parameters(), lr=LR)
    assert step_direction(Subject(model, (idle,), LR, read_batch(BATCH), 0)).is_rounded
    with pytest.warns(MeasureWarning, match="lost in rounding.*too short beside its parameters"):
        report = measure_update(made(), BATCH, F.cross_entropy, optimizer=Idle)
    assert "too short beside its parameters (seed 0)" in report.doubt
    assert "DOUBTFUL" in str(report)
