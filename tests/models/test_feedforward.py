"""The chains (mlp, cnn1d, cnn2d) and the residual networks (resmlp, resnet)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.models import build

DATA = {"resmlp": (6, 64), "resnet": (6, 1, 8, 8)}
LAYERS = {"resmlp": "fc", "resnet": "conv"}


def test_the_mlp_is_its_formula():
    model = build("mlp", depth=3, width=8, in_features=5, activation="tanh")
    x = torch.randn(4, 5)
    hidden = x
    for layer in model.layers:
        hidden = torch.tanh(hidden @ layer.weight.T + layer.bias)
    torch.testing.assert_close(model(x), hidden @ model.head.weight.T + model.head.bias)


@pytest.mark.parametrize("padding", ["zeros", "circular"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_the_cnn_is_its_formula(padding, kernel_size):
    model = build("cnn2d", depth=2, width=4, padding=padding, kernel_size=kernel_size)
    x = torch.randn(2, 1, 8, 8)
    hidden, margin = x, kernel_size // 2
    for layer in model.layers:
        mode = "circular" if padding == "circular" else "constant"
        padded = F.pad(hidden, (margin,) * 4, mode=mode)
        hidden = F.conv2d(padded, layer.weight, layer.bias).relu()
    torch.testing.assert_close(model(x), model.head(hidden.mean((2, 3))))


@pytest.mark.parametrize("name", ["cnn1d", "cnn2d", "resnet"])
def test_with_circular_padding_alone_a_rolled_input_gives_the_same_logits(name):
    shape = (2, 1, 64) if name == "cnn1d" else (2, 1, 8, 8)
    x = torch.randn(*shape)
    circular, zeros = (build(name, padding=padding) for padding in ("circular", "zeros"))
    torch.testing.assert_close(circular(x.roll(3, -1)), circular(x))
    assert not torch.allclose(zeros(x.roll(3, -1)), zeros(x), rtol=1e-3, atol=1e-5)


def test_a_sequence_network_reads_an_image_row_after_row():
    model, x = build("cnn1d", in_channels=2), torch.randn(3, 2, 8, 8)
    assert torch.equal(model(x), model(x.reshape(3, 2, 64)))


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
