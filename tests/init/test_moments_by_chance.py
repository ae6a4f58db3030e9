"""Moments of networks that draw random numbers in training mode do not depend on them."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from etastar import check_stability
from etastar.init.stability import measure_moments


class Skipping(nn.Module):
    """Blocks of which training mode skips some, and drops and normalizes within the others."""

    def __init__(self, chance, rate=0.3, depth=6):
        super().__init__()
        self.chance, self.rate = chance, rate
        self.stem = nn.Linear(8, 16)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm1d(16) for _ in range(depth))

    def forward(self, x):
        x = self.stem(x)
        for block, norm in zip(self.blocks, self.norms, strict=True):
            if self.training and self.chance() < self.rate:
                continue
            x = x + F.dropout(block(F.relu(norm(x))), self.rate, self.training)
        return x


CHANCES = {
    "torch": lambda: torch.rand(()).item(),
    "python": random.random,
    "numpy": np.random.rand,
}


@pytest.mark.parametrize("chance", CHANCES)
def test_what_is_skipped_or_dropped_by_chance_does_not_count(chance):
    torch.manual_seed(0)
    model, x = Skipping(CHANCES[chance]), torch.randn(64, 8) + 3
    found = [measure_moments(model, x) for _ in range(2)]
    assert found[0].forward == found[1].forward
    assert found[0].gradient_norm2 == found[1].gradient_norm2
    model.rate = 0.0
    plain = measure_moments(model, x)
    assert found[0].graph.depth().effective_depth == 7
    assert list(found[0].forward.values()) == pytest.approx(list(plain.forward.values()))
    assert list(found[0].gradient_norm2.values()) == pytest.approx(
        list(plain.gradient_norm2.values())
    )


def test_norms_over_the_batch_take_the_batchs_statistics():
    """With those of evaluation, which have seen no data, nothing would be normalized."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 64), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 4)]
    model, x = nn.Sequential(*layers), 100 * torch.randn(512, 8)
    measured = measure_moments(model, x)
    last = list(measured.forward.values())[-1]
    with torch.no_grad():
        normalized = F.batch_norm(model[0](x), None, None, training=True)
        assert last == pytest.approx(model[3](normalized).square().mean().item(), rel=1e-4)
    before = model[1].running_mean.clone()
    model.eval()
    assert list(measure_moments(model, x).forward.values())[-1] > 1000 * last
    assert torch.equal(model[1].running_mean, before)


def test_a_transformer_with_dropout_is_judged_as_without():
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 64, "n_positions": 16}
    model = GPT2LMHeadModel(GPT2Config(**sizes)).train()
    batch = {"input_ids": torch.arange(16).reshape(2, 8)}
    found = check_stability(model, batch)
    assert found == check_stability(model, batch)
    assert [layer.forward for layer in found.layers] == pytest.approx(
        [layer.forward for layer in check_stability(model.eval(), batch).layers]
    )


def test_training_mode_stays_where_evaluation_mode_returns_something_else():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = F.dropout(self.first(x), 0.5, self.training)
            return {"main": x, "aux": self.second(x)} if self.training else x

    def loss_fn(output, _):
        return output["main"].sum() + output["aux"].sum()

    batch = torch.ones(2, 4), None
    model = Auxiliary()
    assert check_stability(model, batch, loss_fn) == check_stability(model, batch, loss_fn)
