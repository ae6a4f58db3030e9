"""Signals keep their size through transposed and circular convolutions."""

import pytest
import torch
from torch import nn

from etastar.init import check_stability
from tests.init.drawing import initialized

TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@pytest.mark.parametrize(
    ("dims", "kernel", "options"),
    [
        (1, 4, {"stride": 2}),
        (1, 9, {"stride": 3, "dilation": 2}),
        (2, 4, {"stride": 2, "padding": 1}),
        (2, 2, {"stride": 2}),
        (2, 3, {"stride": 2, "output_padding": 1, "padding": 1}),
        (2, 4, {"stride": (4, 1), "groups": 4}),
        (2, 4, {"stride": 2, "dilation": 3}),
        (3, 4, {"stride": 2, "groups": 2}),
    ],
)
def test_a_transposed_convolution_keeps_the_second_moment(dims, kernel, options):
    size = {1: 512, 2: 32, 3: 12}[dims]
    torch.manual_seed(0)
    model = nn.Sequential(TRANSPOSED[dims](64, 64, kernel, **options))
    x = torch.randn(2, 64, *[size] * dims)
    initialized(model, x)
    inner = model(x).detach()[(..., *[slice(kernel * 3, -kernel * 3)] * dims)]
    assert float(inner.square().mean()) == pytest.approx(1, rel=0.15)


def test_a_decoder_of_transposed_convolutions_is_stable():
    layers = [m for _ in range(4) for m in (nn.ReLU(), nn.ConvTranspose2d(64, 64, 4, 2, 1))]
    model, x = nn.Sequential(nn.Conv2d(8, 64, 1), *layers), torch.randn(2, 8, 4, 4)
    initialized(model, x)
    assert check_stability(model, x).stable


def test_circular_convolutions_keep_their_signal_over_fifty_layers():
    convs = (nn.Conv1d(64, 64, 3, padding=1, padding_mode="circular") for _ in range(50))
    layers = [m for conv in convs for m in (nn.ReLU(), conv)]
    model, x = nn.Sequential(nn.Conv1d(8, 64, 1), *layers), torch.randn(4, 8, 16)
    initialized(model, x)
    assert check_stability(model, x).stable
