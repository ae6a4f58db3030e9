"""Modes of the process around a measurement change nothing of it, or are refused."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.coordinates import coordinate_check
from etastar.errors import MeasureWarning
from etastar.measure import measure_update


class Net(nn.Module):
    """Makes a tensor in forward, where the default device and dtype decide."""

    def __init__(self, width=32):
        super().__init__()
        self.first, self.second = nn.Linear(16, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        z = torch.relu(self.first(x)) + torch.ones(self.first.out_features)
        return self.head(torch.relu(self.second(z)))


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def low_products():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


MODES = {
    "bfloat16 autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float16 autocast": lambda: torch.autocast("cpu", torch.float16),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "another device by default": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "products in bfloat16": low_products,
}


def switches():
    return (
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 16, generator=generator), torch.arange(8) % 4


@pytest.mark.parametrize("mode", MODES)
def test_eta_star_is_the_same_under_any_mode(mode):
    torch.manual_seed(0)
    model = Net()

    def eta_star(given):
        return measure_update(model, given, F.cross_entropy, optimizer="adamw").eta_star

    expected = eta_star(batch())
    given = batch()
    with MODES[mode]():
        found = eta_star(given)
        seen = switches()
    with MODES[mode]():
        around = switches()
    assert found == pytest.approx(expected, rel=1e-4)
    assert seen == around


def test_models_and_batches_made_under_inference_mode_are_measured():
    expected = measure_update(Net, batch(), F.cross_entropy, optimizer="sgd", seeds=2)
    with torch.inference_mode():
        torch.manual_seed(0)
        model, made = Net(), batch()
        found = measure_update(Net, made, F.cross_entropy, optimizer="sgd", seeds=2)
        alone = measure_update(model, made, F.cross_entropy, optimizer="sgd")
    assert found == expected
    assert alone.mean_square_update == pytest.approx(expected.by_seed[0], rel=1e-6)


ABOUT_WEIGHTS = ("another device by default", "bfloat16 by default")
"""Modes that decide what a function of the caller's makes: there the same is not to be expected."""


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ABOUT_WEIGHTS])
def test_coordinates_are_the_same_under_any_mode(mode):
    def check():
        return coordinate_check(
            Net, [{"width": 8}, {"width": 16}], batch(), F.cross_entropy, optimizer="sgd", lr=0.1,
            seeds=2,
        )  # fmt: skip

    expected = check()
    with MODES[mode]():
        assert check() == expected


def test_a_model_that_rounds_by_itself_is_measured_with_a_warning():
    class Rounding(Net):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x).float()

    torch.manual_seed(0)
    with pytest.warns(MeasureWarning, match="low precision"):
        report = measure_update(Rounding(), batch(), F.cross_entropy, optimizer="adamw")
    assert "low precision" in report.doubt
    assert "DOUBTFUL" in str(report)
