"""Convolutions whose kernels are multiplied by data: styles, gates of kernels."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import etastar


class Modulated(nn.Module):
    """One kernel an example, each input channel scaled by a style (StyleGAN 2)."""

    def __init__(self, width, kernel, *, is_normed, is_transposed):
        super().__init__()
        self.style = nn.Linear(6, width)
        self.weight = nn.Parameter(torch.randn(1, width, 2 * width, kernel, kernel))
        self.is_normed, self.is_transposed = is_normed, is_transposed

    def forward(self, x, code):
        batch, _, *sizes = x.shape
        kernel = self.weight.transpose(1, 2) * (1 + self.style(code))[:, None, :, None, None]
        if self.is_normed:
            kernel = F.normalize(kernel, dim=(2, 3, 4))
        padding = kernel.shape[-1] // 2
        x = x.reshape(1, -1, *sizes)
        if self.is_transposed:
            kernel = kernel.transpose(1, 2).flatten(0, 1)
            x = F.conv_transpose2d(x, kernel, groups=batch, padding=padding)
        else:
            x = F.conv2d(x, kernel.flatten(0, 1), groups=batch, padding=padding)
        return x.view(batch, -1, *sizes)


class Generator(nn.Module):
    def __init__(self, width=4, kernel=3, *, is_normed=True, is_transposed=False):
        super().__init__()
        how = {"is_normed": is_normed, "is_transposed": is_transposed}
        self.code, self.start = nn.Linear(5, 6), nn.Parameter(torch.randn(1, width, 8, 8))
        self.convs = nn.ModuleList(Modulated(n * width, kernel, **how) for n in (1, 2, 4))
        self.out = nn.Conv2d(8 * width, 3, 1)

    def forward(self, z):
        code = self.code(z)
        x = self.start.expand(len(z), -1, -1, -1)
        for conv in self.convs:
            x = F.leaky_relu(conv(x, code), 0.2)
        return self.out(x)


FORMS = pytest.mark.parametrize(
    "form",
    [
        {},
        {"kernel": 1},
        {"is_normed": False},
        {"is_transposed": True},
    ],
)


@FORMS
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_modulated_kernel_is_a_weight(form, batch):
    kernel, width = form.get("kernel", 3), 4
    graph = etastar.capture_graph(Generator(**form), torch.zeros(batch, 5))
    found = {info.name: info for info in graph.parameters}
    for number, n in enumerate((1, 2, 4)):
        info = found[f"convs.{number}.weight"]
        assert (info.role, info.layer_type) == ("hidden", "convolution")
        assert info.fan_in == n * width * kernel**2
        assert info.fan_out == 2 * n * width * kernel**2
        assert found[f"convs.{number}.style.weight"].role == "hidden"
    assert found["start"].role == "embedding"
    # code, style, its convolution, out; or on through the others
    report = graph.depth()
    assert (report.effective_depth, report.weight_layers) == (4, 8)


@FORMS
def test_a_modulated_kernel_has_the_rate_of_a_hidden_weight_over_width(form):
    base, target = (
        (Generator(4, **form), torch.zeros(2, 5)),
        (Generator(12, **form), torch.zeros(3, 5)),
    )
    plan = etastar.plan_transfer(
        etastar.Tuned(base, 0.01), target, optimizer="adam", law="constant"
    )
    rates = {entry.name: entry.lr for entry in plan.parameters}
    assert rates["convs.1.weight"] == pytest.approx(0.01 / 3)
    assert rates["start"] == pytest.approx(0.01)
    plan.initialize_(target[0])
    assert all(p.isfinite().all() for p in target[0].parameters())


def test_the_criterion_is_measured_where_kernels_are_modulated():
    torch.manual_seed(0)
    batch = torch.randn(4, 5), torch.randn(4, 3, 8, 8)
    report = etastar.measure_update(Generator(), batch, F.mse_loss, optimizer="sgd")
    assert report.layers


class Matching(nn.Module):
    """Features of one image as the kernel on those of another (a Siamese tracker)."""

    def __init__(self):
        super().__init__()
        self.features, self.gain = nn.Conv2d(3, 4, 3), nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        found = self.gain * self.features(x)
        kernel = found.mean((2, 3), keepdim=True).flatten(0, 1)[:, None]
        return F.conv2d(found.flatten(0, 1)[None], kernel, groups=kernel.shape[0])


def test_features_that_serve_as_a_kernel_are_no_weight():
    graph = etastar.capture_graph(Matching(), torch.zeros(2, 3, 6, 6))
    assert {info.name: info.role for info in graph.parameters}["gain"] == "norm"
    assert graph.depth().weight_layers == 1
