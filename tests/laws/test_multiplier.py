"""A multiplier on a layer's output equals its folded form, for every kind of optimizer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from etastar.laws import Factors, fold_multiplier
from etastar.optimizers import optimizer_kind, optimizer_like

CASES = [
    ("sgd", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.02}),
    ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    ("adam", torch.optim.Adam, {"eps": 1e-3, "weight_decay": 0.02}),
    ("adam", torch.optim.Adam, {"eps": 1e-3, "amsgrad": True}),
    ("adamw", torch.optim.AdamW, {"eps": 1e-3, "weight_decay": 0.5}),
    ("nadam", torch.optim.NAdam, {"eps": 1e-3, "weight_decay": 0.02}),
    ("adamax", torch.optim.Adamax, {"eps": 1e-3, "weight_decay": 0.02}),
    ("adafactor", torch.optim.Adafactor, {"weight_decay": 0.5}),
    (
        optimizer_like(torch.optim.RMSprop, "adam", decoupled_weight_decay=False),
        torch.optim.RMSprop,
        {"eps": 1e-3, "weight_decay": 0.02},
    ),
]


def trained_outputs(weight, multiplier, optimizer):
    """Outputs of m V x along a short training run."""
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    outputs = []
    for _ in range(12):
        optimizer.zero_grad()
        output = multiplier * x @ weight.T
        (output.sin() ** 2).mean().backward()
        optimizer.step()
        outputs.append(output.detach())
    return torch.stack(outputs)


@pytest.mark.parametrize(("kind", "cls", "settings"), CASES)
@pytest.mark.parametrize("multiplier", [0.125, 0.3, 4.0])
def test_folded_multiplier_trains_the_same_function(kind, cls, settings, multiplier):
    initial = torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(2, 3)
    explicit = nn.Parameter(initial.clone())
    expected = trained_outputs(explicit, multiplier, cls([explicit], lr=0.1, **settings))

    factors = fold_multiplier(Factors(multiplier=multiplier), optimizer=optimizer_kind(kind))
    folded = nn.Parameter(initial * factors.init)
    own = dict(settings)
    own["weight_decay"] = own.get("weight_decay", 0.0) * factors.weight_decay
    if "eps" in own:
        own["eps"] *= factors.eps
    actual = trained_outputs(folded, 1.0, cls([folded], lr=0.1 * factors.lr, **own))
    assert not torch.allclose(expected[0], expected[-1], rtol=1e-2)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


numbers = st.floats(1e-3, 1e3)
factor_records = st.builds(Factors, numbers, numbers, numbers, numbers, numbers)


@settings(deadline=None)
@given(factor_records, factor_records, st.sampled_from(["sgd", "adam", "adamw", "muon"]))
def test_folding_commutes_with_composition(first, second, name):
    kind = optimizer_kind(name)
    apart = fold_multiplier(first, optimizer=kind) * fold_multiplier(second, optimizer=kind)
    together = fold_multiplier(first * second, optimizer=kind)
    for field in ("lr", "init", "eps", "weight_decay"):
        assert getattr(apart, field) == pytest.approx(getattr(together, field), rel=1e-9)
    assert together.multiplier == 1.0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_no_multiplier_changes_nothing(name):
    factors = Factors(lr=0.3, eps=0.7)
    assert fold_multiplier(factors, optimizer=optimizer_kind(name)) == factors
