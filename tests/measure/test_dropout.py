"""All passes of a seed draw the same random numbers, whatever the network draws them for."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.measure import measure_update

TARGETS = torch.arange(8) % 4


class Attention(nn.Module):
    """Dropout within the attention weights and on what they give."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(12, 32)
        self.attend = nn.MultiheadAttention(32, 4, dropout=0.3, batch_first=True)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(32, 4)

    def forward(self, x):
        z = self.embed(x.unflatten(-1, (2, 12)))
        z = z + self.drop(self.attend(z, z, z, need_weights=False)[0])
        return self.head(z.mean(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(12, 32)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.2, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        z = self.embed(x.unflatten(-1, (2, 12)))
        for layer in self.layers:
            z = layer(z)
        return self.head(z.mean(1))


class Blocks(nn.Module):
    """Residual blocks, of which one in two is dropped for each example (or for all)."""

    def __init__(self, drawn):
        super().__init__()
        self.embed, self.head = nn.Linear(24, 32), nn.Linear(32, 4)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.drawn = drawn

    def forward(self, x):
        z = self.embed(x)
        for block in self.blocks:
            z = z + block(torch.relu(z)) * self.drawn(len(x))
        return self.head(z)


def by_torch(examples):
    return 2.0 * (torch.rand(examples, 1) < 0.5)


def by_numpy(examples):
    return float(np.random.random() < 0.5) * 2.0  # noqa: NPY002  what models draw from


def by_python(examples):
    return float(random.random() < 0.5) * 2.0


class ByOwnGenerator(Blocks):
    """Draws from a generator that it holds."""

    def __init__(self):
        super().__init__(self.draw)
        self.generator = torch.Generator().manual_seed(5)

    def draw(self, examples):
        return 2.0 * (torch.rand(examples, 1, generator=self.generator) < 0.5)


def made_by_a_function(rate=0.4):
    layers = [m for _ in range(3) for m in (nn.Linear(24, 24), nn.Dropout(rate), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(24, 4))


NETWORKS = {
    "attention": Attention,
    "encoder layers": Encoder,
    "stochastic depth by torch": lambda: Blocks(by_torch),
    "stochastic depth by numpy": lambda: Blocks(by_numpy),
    "stochastic depth by python": lambda: Blocks(by_python),
    "a generator of its own": ByOwnGenerator,
    "dropout of a function's model": made_by_a_function,
}


def inputs():
    return torch.randn(8, 24, generator=torch.Generator().manual_seed(0)), TARGETS


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_seed_is_the_measurement_of_that_seed_alone(name, optimizer):
    make = NETWORKS[name]
    settings = {"optimizer": optimizer, "pre_activations": "layers"}
    together = measure_update(make, inputs(), F.cross_entropy, seeds=3, **settings)
    for seed, found in enumerate(together.by_seed):
        alone = measure_update(make, inputs(), F.cross_entropy, seeds=[seed], **settings)
        assert found == pytest.approx(alone.mean_square_update, rel=1e-6)
    low, high = min(together.by_seed), max(together.by_seed)
    assert high < 1e3 * low  # one network from three draws, not one and two times nothing
    assert together.doubt == ""


def test_the_gradient_is_of_the_masks_that_the_pre_activations_see():
    """z = w (m x), loss = z: a unit moves by -x_i^2 for each input that the mask lets through."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 1, bias=False)

        def forward(self, x):
            return self.layer(F.dropout(x, 0.5))

    report = measure_update(
        Masked, (torch.ones(1, 64), None), lambda z, _: z.sum(), optimizer="sgd",
        pre_activations="layers", seeds=4,
    )  # fmt: skip
    for seed, found in zip(report.seeds, report.by_seed, strict=True):
        torch.manual_seed(seed)
        kept = float(F.dropout(torch.ones(1, 64), 0.5).square().sum())
        assert found == pytest.approx(kept**2, rel=1e-3)
