"""The chains: mlp, cnn1d, cnn2d."""

import pytest
import torch
import torch.nn.functional as F

from etastar.models import build


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
