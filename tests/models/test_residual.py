"""The residual networks: resmlp, resnet."""

import pytest
import torch
from torch import nn

from etastar.models import build

DATA = {"resmlp": (6, 64), "resnet": (6, 1, 8, 8)}
LAYERS = {"resmlp": "fc", "resnet": "conv"}


def by_formula(model, x, *, prefix, branch_layers, multiplier):
    x = model.stem(x)
    for block in model.blocks:
        branch = x
        for number in range(1, branch_layers + 1):
            normed = getattr(block, f"norm{number}")(branch)
            branch = getattr(block, f"{prefix}{number}")(normed.relu())
        x = x + multiplier * branch
    x = model.norm(x).relu()
    return model.head(x.mean((2, 3)) if x.ndim == 4 else x)


@pytest.mark.parametrize("name", ["resmlp", "resnet"])
@pytest.mark.parametrize("branch_layers", [1, 2])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("multiplier", [1.0, 0.25])
def test_the_network_is_its_formula(name, branch_layers, batch_norm, multiplier):
    model = build(
        name,
        depth=3,
        width=8,
        branch_layers=branch_layers,
        batch_norm=batch_norm,
        branch_multiplier=multiplier,
    ).eval()
    x = torch.randn(*DATA[name])
    expected = by_formula(
        model,
        x,
        prefix=LAYERS[name],
        branch_layers=branch_layers,
        multiplier=multiplier,
    )
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("name", ["resmlp", "resnet"])
@pytest.mark.parametrize("branch_layers", [1, 2])
def test_a_multiplier_of_zero_leaves_stem_and_head(name, branch_layers):
    model = build(name, branch_layers=branch_layers, branch_multiplier=0.0)
    x = torch.randn(*DATA[name])
    model.blocks, shallow = nn.ModuleList(), model(x)
    torch.testing.assert_close(model(x), shallow)
    assert shallow.abs().sum() > 0


@pytest.mark.parametrize("name", ["resmlp", "resnet"])
@pytest.mark.parametrize(("branch_layers", "norms"), [(1, 3 + 1), (2, 6 + 1)])
def test_batch_norm_stands_before_every_activation(name, branch_layers, norms):
    model = build(name, depth=3, branch_layers=branch_layers, batch_norm=True)
    found = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(found) == norms
    plain = build(name, depth=3, branch_layers=branch_layers)
    assert not [m for m in plain.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]


@pytest.mark.parametrize("name", ["resmlp", "resnet", "vit", "gpt"])
def test_dropout_acts_in_training_alone(name):
    model = build(name, dropout=0.5)
    tokens = name == "gpt"
    x = torch.zeros(2, 32, dtype=torch.int64) if tokens else torch.randn(2, 1, 8, 8)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    assert not [m for m in build(name).modules() if isinstance(m, nn.Dropout)]
